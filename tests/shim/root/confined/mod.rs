//! What the daemon and the node's helpers give up, and that nothing else gives it up with them.

mod unit;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
};

use super::watch::sources::lock_connector;
use crate::harness::{
    Process,
    containerd::{Containerd, Program, Version},
    deadline,
    tools::{SHIM, tool},
};

/// `CAP_KILL`, `CAP_SYS_PTRACE` and `CAP_DAC_READ_SEARCH` as bits.
const OF_THE_DAEMON: u64 = 1 << 5 | 1 << 19 | 1 << 2;
/// `CAP_NET_ADMIN`, `CAP_SYS_PTRACE` and `CAP_DAC_READ_SEARCH` as bits.
const OF_THE_LISTENER: u64 = 1 << 12 | 1 << 19 | 1 << 2;

/// The lines of `/proc/PID/status`, by name.
fn status(pid: i32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let pairs = text.lines().filter_map(|line| line.split_once(":\t"));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Whether a thread has a filter of system calls, `no_new_privs`, and at most these capabilities.
fn is_confined(status: &BTreeMap<String, String>, most: u64) -> bool {
    let set = |name: &str| u64::from_str_radix(&status[name], 16).expect("a mask");
    let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
    sets.iter().all(|name| set(name) & !most == 0)
        && status["Seccomp"] == "2"
        && status["NoNewPrivs"] == "1"
}

#[track_caller]
fn assert_confined(process: Process, most: u64) {
    let threads = fs::read_dir(format!("/proc/{}/task", process.pid)).expect("it runs").flatten();
    let mut count = 0;
    for thread in threads {
        let status = status(thread.file_name().to_string_lossy().parse().expect("a tid"));
        assert!(is_confined(&status, most), "{status:#?}");
        count += 1;
    }
    assert!(count > 0, "no threads");
}

/// A daemon that is killed when dropped.
struct RunningDaemon<'a> {
    child: Child,
    containerd: &'a Containerd,
}

impl<'a> RunningDaemon<'a> {
    /// Waits until the daemon answers.
    fn new(containerd: &'a Containerd, child: Child) -> Self {
        let daemon = Self { child, containerd };
        deadline::until("the daemon to serve", || {
            let ended = containerd.lookout(&["ping"]).run();
            ended.code == 0
        });
        daemon
    }

    fn process(&self) -> Process {
        Process::new(self.child.id())
    }

    /// Runs `lookout ARGUMENTS`, which must succeed.
    #[track_caller]
    fn lookout(&self, arguments: &[&str]) -> String {
        self.containerd.lookout(arguments).run().success().stdout_text()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.containerd.path("daemon.log")).expect("the log")
    }
}

impl Drop for RunningDaemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command of a daemon for this containerd, run by `wrapper`.
fn daemon_command(containerd: &Containerd, wrapper: &[&str]) -> Command {
    let log = fs::File::create(containerd.path("daemon.log")).expect("our directory is writable");
    let words = [wrapper, &[env!("CARGO_BIN_EXE_lookout"), "daemon"]].concat();
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .env("LOOKOUT_RUNTIME_DIR", containerd.path("lookout"))
        .env("LOOKOUT_PROBE_SOCKET", containerd.path("lookout/probe.sock"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command
}

/// Starts a daemon that dies with the calling thread.
fn start_daemon(containerd: &Containerd) -> RunningDaemon<'_> {
    fs::create_dir_all(containerd.path("lookout")).expect("our directory is writable");
    let mut command = daemon_command(containerd, &["setpriv", "--pdeathsig", "KILL"]);
    RunningDaemon::new(containerd, command.spawn().expect("setpriv of util-linux"))
}

/// A process of the user `nobody` that sleeps; killed when dropped.
struct Sleeper(Child);

impl Sleeper {
    fn new(seconds: &str) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--pdeathsig"]);
        let child = command.args(["KILL", "sleep", seconds]).spawn().expect("setpriv");
        let process = Process::new(child.id());
        deadline::until("the sleep", || {
            process.command_line().first().is_some_and(|it| it == "sleep")
        });
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Uses all that the daemon is for: the registry with processes of another user, the node's
/// containers, its stream, metrics and probes.
fn use_daemon(daemon: &RunningDaemon<'_>) {
    let (containerd, metrics) = (daemon.containerd, "lookout/metrics.sock");
    let mut probes = UnixStream::connect(containerd.path("lookout/probe.sock")).expect("it serves");
    containerd.detached("c", &[], &["sh", "-c", "nc -l -p 80 & sleep 1000"]);
    let (mut first, second) = (Sleeper::new("1001"), Sleeper::new("1002"));
    daemon.lookout(&["add", &first.pid(), "--name", "first", "--tag", "t"]);
    daemon.lookout(&["add", &second.pid(), "--name", "second"]);
    daemon.lookout(&["tag", "1", "other"]);
    let list = daemon.lookout(&["list", "-o", "jsonl"]);
    assert!(list.contains("\"sleep\",\"1001\"") && list.contains("\"other\""), "{list}");
    assert!(daemon.lookout(&["stats", "-o", "jsonl"]).contains("rss"));
    assert!(daemon.lookout(&["stats", "--tree"]).contains("first"));
    daemon.lookout(&["kill", "--name", "first", "--tree", "-s", "KILL"]);
    first.0.wait().expect("our own child");
    deadline::until("the end of the first", || daemon.lookout(&["list"]).contains("SIGKILL"));
    assert!(daemon.lookout(&["run", "--name", "ran", "--", "echo", "it runs"]).contains("it runs"));
    let snapshot = daemon.lookout(&["snapshot", "save", "-"]);
    assert!(snapshot.contains("second"), "{snapshot}");
    daemon.lookout(&["rm", "--name", "second"]);
    deadline::until("the container in the view", || {
        daemon.lookout(&["stats", "--containers"]).contains("sleep 1000")
            && daemon.lookout(&["ports", "--daemon"]).contains("80")
    });
    let mut scrape = UnixStream::connect(containerd.path(metrics)).expect("it serves");
    scrape.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    scrape.read_to_string(&mut answer).expect("it answers");
    assert!(answer.contains("lookout_shims_answering 1"), "{answer}");
    let mut probed = [0; 4096];
    let count = probes.read(&mut probed).expect("it writes");
    assert!(String::from_utf8_lossy(&probed[..count]).contains("\"command\""));
    let stream = fs::read_to_string(containerd.path("lookout/registry/stream.jsonl"));
    assert!(stream.expect("the stream").contains("process.start"));
    daemon.lookout(&["reset", "--confirm", "RESET"]);
    assert_eq!(daemon.log().matches("level=warning").count(), 0, "{}", daemon.log());
    containerd.remove("c");
}

/// Check that all threads of the daemon are confined, and that it still does all that it is for.
#[test]
fn the_daemon_is_confined_and_does_its_work() {
    let containerd = Containerd::start(Version::V1_7);
    let daemon = start_daemon(&containerd);
    use_daemon(&daemon);
    assert_confined(daemon.process(), OF_THE_DAEMON);
}

/// Check that what `lookout run` starts inherits nothing of the daemon's confinement: it prints the
/// same facts as without lookout.
#[test]
fn what_run_starts_is_not_confined() {
    let containerd = Containerd::start(Version::V1_7);
    let daemon = start_daemon(&containerd);
    let program = tool("storm/bin/inherited").display().to_string();
    let run = containerd.lookout(&["run", "--", &program]).run().success().stdout_text();
    let mut direct = Command::new(&program);
    direct.env("LOOKOUT_RUNTIME_DIR", containerd.path("lookout")).env("NO_COLOR", "1");
    let direct = Program::new(direct).run().success().stdout_text();
    assert!(direct.contains("CapBnd:"), "{direct}");
    assert_eq!(direct.lines().collect::<Vec<_>>(), run.lines().collect::<Vec<_>>());
    drop(daemon);
}

/// Check that the process that listens to the proc connector is confined, and still reports.
#[test]
fn the_connectors_listener_is_confined() {
    let containerd = Containerd::start_configured(Version::V1_7, "source = \"connector\"\n");
    let alone = lock_connector(&containerd);
    let subscriber = containerd.subscribe();
    containerd.detached("c", &[], &["sh", "-c", "sleep 1; sleep 1000"]);
    let child = subscriber.wait_run(&["sleep", "1"]);
    assert_eq!(child.text("/source"), "connector", "{child:?}");
    let is_listener = |process: &Process| {
        process.command_line().get(1).is_some_and(|verb| verb == "listen-connector")
    };
    let listeners: Vec<Process> = Process::all().into_iter().filter(is_listener).collect();
    assert_eq!(listeners.len(), 1, "one listener");
    assert_confined(listeners[0], OF_THE_LISTENER);
    // The shim starts runtimes and hooks, so it keeps everything.
    let shim = status(containerd.shim("c").pid);
    let own = status(std::process::id().cast_signed());
    for name in ["CapPrm", "CapEff", "CapBnd", "CapInh", "Seccomp", "NoNewPrivs"] {
        assert_eq!(shim[name], own[name], "{name}");
    }
    containerd.remove("c");
    containerd.assert_nothing_left();
    drop(alone);
}

/// Check that the process that loads the eBPF programs is confined before it loads them, and that
/// it can still load and attach all of them.
#[test]
fn the_loader_is_confined() {
    let mut containerd = Containerd::start(Version::V1_7);
    containerd.use_own_bpffs();
    let (trace, bpffs) = (containerd.path("trace"), containerd.path("bpffs"));
    let mut command = Command::new("strace");
    command
        .args(["-e", "trace=capset,seccomp,bpf", "-o"])
        .arg(&trace)
        .args([SHIM, "load-programs"]);
    command.env("LOOKOUT_BPFFS", &bpffs);
    let loaded = Program::new(command).run().success().stdout_text();
    assert_eq!(loaded, "ready");
    let trace = fs::read_to_string(trace).expect("written by strace");
    let at = |what: &str| trace.lines().position(|line| line.starts_with(what));
    let confined = at("seccomp(SECCOMP_SET_MODE_FILTER").expect("it has a filter");
    assert!(trace.lines().nth(confined).is_some_and(|line| line.ends_with("= 0")), "{trace}");
    assert!(at("capset(").expect("it gives up capabilities") < confined);
    assert!(confined < at("bpf(").expect("it loads programs"), "{trace}");
    let set = fs::read_dir(bpffs.join("lookout")).expect("our own bpffs").flatten();
    let pins: Vec<String> = set
        .flat_map(|set| fs::read_dir(set.path()).into_iter().flatten().flatten())
        .map(|pin| pin.file_name().to_string_lossy().into_owned())
        .collect();
    for link in ["fork", "exec", "exit", "port", "bind4", "bind6", "release"] {
        assert!(pins.iter().any(|pin| pin == link), "{link} is not among {pins:?}");
    }
}
