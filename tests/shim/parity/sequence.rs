//! One life of a container with all seventeen requests, including refused ones.
//!
//! Two requests are left out. A second start of a running exec: the stock shim counts it twice,
//! reports the exit twice, and dies at the end of init (1.7 and 2.1 alike). A create with options
//! of an unknown type: the stock shim runs the default runtime in the machine's own directory.

use std::path::Path;

use containerd_shim_protos::{api, protobuf::MessageField};

use crate::harness::{
    Bundle, Daemon, Failure, Fifo, Node, Shim, any, deadline, exec_request, real,
};

/// One request and its outcome, without parts that differ from run to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) outcome: String,
}

/// The steps so far, and the values to hide in their outcomes.
struct Record<'a> {
    steps: Vec<Step>,
    hidden: Vec<(String, &'static str)>,
    node: &'a Node,
}

impl Record<'_> {
    /// Adds a step and returns its answer.
    fn step<T>(
        &mut self,
        name: &'static str,
        answer: Result<T, Failure>,
        show: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let outcome = match &answer {
            Ok(answer) => show(answer),
            Err(Failure { code: Some(code), message }) => format!("{code:?}: {message}"),
            Err(Failure { code: None, message }) => format!("no answer: {message}"),
        };
        self.add(name, &outcome);
        answer.ok()
    }

    /// Adds a step with an empty answer.
    fn done(&mut self, name: &'static str, answer: Result<api::Empty, Failure>) {
        self.step(name, answer, |_| "ok".to_owned());
    }

    fn add(&mut self, name: &'static str, outcome: &str) {
        let mut outcome = outcome.to_owned();
        for (text, instead) in &self.hidden {
            outcome = outcome.replace(text, instead);
        }
        self.steps.push(Step { name, outcome });
    }

    /// Replaces a number by a name in later outcomes.
    fn hide(&mut self, number: u32, name: &'static str) {
        self.hidden.push((format!("<{number}>"), name));
    }
}

/// Sends all requests to `shim`, always in the same order.
pub(super) fn run_sequence(
    node: &Node,
    daemon: &Daemon,
    shim: &Shim,
    bundle: &Bundle,
) -> Vec<Step> {
    let mut record = Record { steps: Vec::new(), hidden: Vec::new(), node };
    record.hidden.push((node.path().to_string_lossy().into_owned(), "NODE"));
    record.hidden.push((bundle.options.binary_name.clone(), "runc"));
    record.hidden.push((format!("<{}>", shim.process.pid), "SHIM"));
    unknown(&mut record, shim);
    failures(&mut record, shim);
    created(&mut record, shim, bundle);
    running(&mut record, shim);
    execs(&mut record, shim);
    paused(&mut record, shim);
    stopped(&mut record, shim);
    daemon.wait_for("delete web 3");
    record.add("events", &daemon.event_lines().join(", "));
    // The stock shim may exit before it has answered.
    let _ = shim.shutdown("web");
    shim.wait_for_exit(deadline::PATIENCE);
    record.steps
}

fn unknown(record: &mut Record<'_>, shim: &Shim) {
    let image = record.node.path().join("image");
    record.step("state of none", shim.state("none", ""), state);
    record.step("start of none", shim.start("none", ""), |answer| pid(answer.pid));
    record.step("delete of none", shim.delete("none", ""), deleted);
    record.step("pids of none", shim.pids("none"), |_| "ok".to_owned());
    record.done("pause of none", shim.pause("none"));
    record.done("resume of none", shim.resume("none"));
    record.done("checkpoint of none", shim.checkpoint("none", &image, None));
    record.done("kill of none", shim.kill("none", "", 9));
    record.done("exec in none", shim.exec("none", "probe"));
    record.done("resize of none", shim.resize_pty("none", "", 80, 24));
    record.done("close of none", shim.close_io("none", ""));
    record.done("update of none", shim.update("none", "{}"));
    record.step("wait for none", shim.wait("none", ""), waited);
    record.step("stats of none", shim.stats("none"), |_| "ok".to_owned());
    record.step("connect to none", shim.connection("none"), connected);
}

/// Creates that fail, with bundles of their own.
fn failures(record: &mut Record<'_>, shim: &Shim) {
    let nope = record.node.runc_bundle("nope", "");
    let mut config: serde_json::Value =
        serde_json::from_str(&nope.read("config.json").unwrap()).unwrap();
    config["process"]["args"] = serde_json::json!(["/nope"]);
    nope.write_config(&config);
    record.step("create of what is not there", shim.create(&nope.create()), created_pid);
    let mut other = record.node.runc_bundle("other", "exit 0");
    "/no/such/runtime".clone_into(&mut other.options.binary_name);
    record.step("create by no runtime", shim.create(&other.create()), |_| "ok".to_owned());
    record.step("state after failed creates", shim.state("nope", ""), state);
}

fn created(record: &mut Record<'_>, shim: &Shim, bundle: &Bundle) {
    let fifo = |name: &str| Fifo::make(record.node.path().join(name));
    let [stdin, stdout, stderr] = ["stdin", "stdout", "stderr"].map(fifo);
    let request = api::CreateTaskRequest {
        stdin: stdin.name(),
        stdout: stdout.name(),
        stderr: stderr.name(),
        ..bundle.create()
    };
    let stderr = stderr.collect();
    let _stdout = stdout.collect();
    let created = shim.create(&request);
    if let Ok(answer) = &created {
        record.hide(answer.pid, "INIT");
    }
    record.step("create", created, created_pid);
    record.step("state when created", shim.state("web", ""), state);
    record.step("create again", shim.create(&request), created_pid);
    record.step("connect when created", shim.connection("web"), connected);
    record.step("pids when created", shim.pids("web"), pids);
    record.done("pause when created", shim.pause("web"));
    record.done("resume when created", shim.resume("web"));
    record.done("checkpoint when created", shim.checkpoint("web", Path::new("/nonexistent"), None));
    record.done("close when created", shim.close_io("web", ""));
    record.done("resize when created", shim.resize_pty("web", "", 80, 24));
    record.done("shutdown when created", shim.shutdown("web"));
    record.step("start", shim.start("web", ""), |answer| pid(answer.pid));
    drop(stderr);
}

fn running(record: &mut Record<'_>, shim: &Shim) {
    record.step("state when running", shim.state("web", ""), state);
    record.step("delete when running", shim.delete("web", ""), deleted);
    record.done("resume when running", shim.resume("web"));
    record.done("shutdown when running", shim.shutdown("web"));
    record.step("stats", shim.stats("web"), |answer| answer.stats.type_url.clone());
    record.done("update", shim.update("web", r#"{"cpu":{"shares":512}}"#));
    record.done("update by nonsense", shim.update("web", "nonsense"));
    record.done("kill by 0", shim.kill("web", "", 0));
    record.done("kill by a signal that is none", shim.kill("web", "", 200));
}

fn execs(record: &mut Record<'_>, shim: &Shim) {
    let exec = |exec_id: &str, script: &str| {
        let mut request = exec_request("web", exec_id);
        request.spec = MessageField::some(any(
            "types.containerd.io/opencontainers/runtime-spec/1/Process",
            real::process(script),
        ));
        shim.exec_with(&request)
    };
    record.step("state of no exec", shim.state("web", "none"), state);
    record.step("start of no exec", shim.start("web", "none"), |answer| pid(answer.pid));
    record.step("delete of no exec", shim.delete("web", "none"), deleted);
    record.done("kill of no exec", shim.kill("web", "none", 9));
    record.step("wait for no exec", shim.wait("web", "none"), waited);
    record.done("resize of no exec", shim.resize_pty("web", "none", 80, 24));
    record.done("close of no exec", shim.close_io("web", "none"));

    record.done("exec", exec("probe", "exit 7"));
    record.step("state when added", shim.state("web", "probe"), state);
    record.done("exec again", exec("probe", "exit 8"));
    record.done("kill when added", shim.kill("web", "probe", 9));
    record.done("resize when added", shim.resize_pty("web", "probe", 80, 24));
    let started = shim.start("web", "probe");
    if let Ok(answer) = &started {
        record.hide(answer.pid, "PROBE");
    }
    record.step("start of an exec", started, |answer| pid(answer.pid));
    record.step("wait for an exec", shim.wait("web", "probe"), waited);
    record.step("state of an exec that ended", shim.state("web", "probe"), state);
    record.done("kill of an exec that ended", shim.kill("web", "probe", 9));
    record.step(
        "start of an exec that ended",
        shim.start("web", "probe"),
        |answer| pid(answer.pid),
    );
    record.step("delete of an exec", shim.delete("web", "probe"), deleted);
    record.step("delete of an exec again", shim.delete("web", "probe"), deleted);

    record.done("exec that lasts", exec("long", "exec sleep 600"));
    let started = shim.start("web", "long");
    if let Ok(answer) = &started {
        record.hide(answer.pid, "LONG");
    }
    record.step("start of an exec that lasts", started, |answer| pid(answer.pid));
    record.step("delete of it when running", shim.delete("web", "long"), deleted);
    record.step("state of it when running", shim.state("web", "long"), state);
    record.done("kill of it", shim.kill("web", "long", 9));
    record.step("wait for it", shim.wait("web", "long"), waited);
    record.step("delete of it", shim.delete("web", "long"), deleted);

    record.done("exec of what is not there", exec("nope", "/nope"));
    record.step("start of what is not there", shim.start("web", "nope"), |answer| pid(answer.pid));
    record.step("state of what is not there", shim.state("web", "nope"), state);
    record.step("delete of what is not there", shim.delete("web", "nope"), deleted);
    record.done("exec that is never started", exec("never", "exit 0"));
    record.step("delete of what was never started", shim.delete("web", "never"), deleted);
}

fn paused(record: &mut Record<'_>, shim: &Shim) {
    record.done("exec before a pause", shim.exec("web", "late"));
    record.done("pause", shim.pause("web"));
    record.step("state when paused", shim.state("web", ""), state);
    record.step("state of an exec when paused", shim.state("web", "late"), state);
    record.done("pause again", shim.pause("web"));
    record.done("exec when paused", shim.exec("web", "probe"));
    record.step("delete when paused", shim.delete("web", ""), deleted);
    record.done("resume", shim.resume("web"));
    record.step("state when resumed", shim.state("web", ""), state);
    record.step("delete of the exec of before", shim.delete("web", "late"), deleted);
}

fn stopped(record: &mut Record<'_>, shim: &Shim) {
    record.done("exec that will be too late", shim.exec("web", "late"));
    record.done("kill", shim.kill("web", "", 15));
    record.step("wait", shim.wait("web", ""), waited);
    record.step("state when stopped", shim.state("web", ""), state);
    record.step("wait when stopped", shim.wait("web", ""), waited);
    record.step("start when stopped", shim.start("web", ""), |answer| pid(answer.pid));
    record.done("kill when stopped", shim.kill("web", "", 9));
    record.done("pause when stopped", shim.pause("web"));
    record.done("resume when stopped", shim.resume("web"));
    record.done("exec when stopped", shim.exec("web", "probe"));
    record
        .step("start of an exec when stopped", shim.start("web", "late"), |answer| pid(answer.pid));
    record.done("update when stopped", shim.update("web", "{}"));
    record.done("checkpoint when stopped", shim.checkpoint("web", Path::new("/nonexistent"), None));
    record.done("resize when stopped", shim.resize_pty("web", "", 80, 24));
    record.done("close when stopped", shim.close_io("web", ""));
    record.step("connect when stopped", shim.connection("web"), connected);
    record.done("shutdown when stopped", shim.shutdown("web"));
    record.step("delete of an exec when stopped", shim.delete("web", "late"), deleted);
    record.step("delete", shim.delete("web", ""), deleted);
    record.step("delete again", shim.delete("web", ""), deleted);
    record.step("state when deleted", shim.state("web", ""), state);
}

fn pid(number: u32) -> String {
    format!("pid=<{number}>")
}

fn created_pid(answer: &api::CreateTaskResponse) -> String {
    pid(answer.pid)
}

/// Names a time: "never" for Go's zero time, otherwise "now".
fn time(seconds: i64) -> &'static str {
    if seconds > 1_700_000_000 { "now" } else { "never" }
}

fn state(answer: &api::StateResponse) -> String {
    format!(
        "{} {} pid=<{}> {:?} in={} out={} err={} tty={} exit={} at={}",
        answer.id,
        answer.bundle,
        answer.pid,
        answer.status.enum_value_or_default(),
        answer.stdin,
        answer.stdout,
        answer.stderr,
        answer.terminal,
        answer.exit_status,
        time(answer.exited_at.seconds),
    )
}

fn waited(answer: &api::WaitResponse) -> String {
    format!("exit={} at={}", answer.exit_status, time(answer.exited_at.seconds))
}

fn deleted(answer: &api::DeleteResponse) -> String {
    format!(
        "pid=<{}> exit={} at={}",
        answer.pid,
        answer.exit_status,
        time(answer.exited_at.seconds)
    )
}

fn connected(answer: &api::ConnectResponse) -> String {
    format!(
        "shim pid=<{}> task pid=<{}> version={:?}",
        answer.shim_pid, answer.task_pid, answer.version
    )
}

fn pids(answer: &api::PidsResponse) -> String {
    let process = |process: &api::ProcessInfo| {
        let info = process.info.as_ref().map(|info| info.type_url.clone());
        format!("pid=<{}> {info:?}", process.pid)
    };
    answer.processes.iter().map(process).collect::<Vec<_>>().join(", ")
}
