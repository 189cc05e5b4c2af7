//! Runtimes that print too much, hang, crash or write wrong files.

use std::time::Duration;

use containerd_shim_protos::ttrpc::proto::Code;

use crate::harness::{Node, Process, deadline};

/// Check that a failed runtime that prints far more than a pipe holds is quoted only in part
/// (containerd#4434).
#[test]
fn long_output_of_a_failed_runtime_is_quoted_in_part() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let noise = "yes out | head -c 300000; yes err | head -c 300000 >&2; exit 77";
    for verb in ["create", "start", "kill"] {
        node.runtime().before(verb, noise);
    }
    let quick = shim.with_deadline(Duration::from_secs(5));
    let failure = quick.create(&bundle.create()).unwrap_err();
    assert_eq!(failure.code, Some(Code::UNKNOWN));
    assert!(failure.message.contains("exit status 77"), "{:.200}", failure.message);
    assert!(failure.message.len() < 6000, "{}", failure.message.len());
    node.runtime().reset("create");
    quick.create(&bundle.create()).unwrap();
    for failure in [quick.start("web", "").map(drop), quick.kill("web", "", 9).map(drop)]
        .map(Result::unwrap_err)
    {
        assert!(failure.message.contains("exit status 77"), "{:.200}", failure.message);
        assert!(failure.message.contains(r"err\nerr"), "{:.200}", failure.message);
        assert!(failure.message.len() < 6000, "{}", failure.message.len());
    }
}

/// Check that a missing runtime log is reported with the stock shim's text.
#[test]
fn a_runtime_without_a_log_is_reported() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime().before("create", "exit 3");
    let failure = shim.create(&bundle.create()).unwrap_err();
    let call = &node.runtime().calls("create")[0];
    let log = call.value("--log").unwrap();
    let runtime = node.runtime().path().display().to_string();
    assert_eq!(
        failure.message,
        format!(
            "OCI runtime create failed: unable to retrieve OCI runtime error \
             (open {log}: no such file or directory): \
             {runtime} create did not terminate successfully: exit status 3"
        )
    );
}

/// Check that the last error of this call is taken from the log, that invalid lines are skipped,
/// and that an error of an earlier call is ignored.
#[test]
fn the_last_error_of_the_call_counts() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let log = r#"printf '{"level":"error","msg":"first"}\n\0\377{garbage\n{"level":"warning","msg":"not me"}\n' >>"$log"
        printf '{"level":"error","msg":"last"}\n{"level":"info","msg":"nor me"}\n[]\n' >>"$log"; exit 1"#;
    node.runtime().before("create", log);
    assert_eq!(
        shim.create(&bundle.create()).unwrap_err().message,
        "OCI runtime create failed: last"
    );
    node.runtime().before("create", "exit 4");
    let failure = shim.create(&bundle.create()).unwrap_err();
    assert!(failure.message.contains("exit status 4"), "{failure:?}");
}

/// Check that the error for a crashed runtime contains its signal.
#[test]
fn the_signal_of_a_crashed_runtime_is_reported() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime().before("create", "kill -SEGV $$");
    let failure = shim.create(&bundle.create()).unwrap_err();
    assert!(failure.message.contains("exit status 139"), "{failure:?}");
}

/// Check that a wrong pid file fails the create, and that the process it names is left alone.
#[test]
fn a_wrong_pid_file_fails_the_create() {
    let mut bystander = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let process = Process::new(bystander.id());
    let foreign = process.pid.to_string();
    for content in ["", "0", "-1", "1", "99999999999999999999", "no pid", "12 34", &foreign] {
        let node = Node::new();
        let bundle = node.bundle("web");
        let shim = node.shim(&bundle);
        node.runtime().after("create", &format!("printf '%s' '{content}' >\"$pid_file\""));
        let failure = shim.create(&bundle.create()).unwrap_err();
        assert!(
            failure.message.starts_with("failed to retrieve OCI runtime container pid"),
            "{content:?}: {failure:?}"
        );
        assert!(shim.state("web", "").is_err());
        // Nothing is left of it; its true init was killed, too.
        assert!(!node.runtime_root().join("test/web").exists());
        assert!(process.lives(), "{content:?}");
        shim.shut_down();
        node.wait_until_empty();
    }
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// Check that the create fails if the runtime writes no pid file.
#[test]
fn a_missing_pid_file_fails_the_create() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime().after("create", "rm \"$pid_file\"");
    let failure = shim.create(&bundle.create()).unwrap_err();
    assert!(
        failure.message.starts_with("failed to retrieve OCI runtime container pid"),
        "{failure:?}"
    );
}

/// Check that a wrong pid file of an exec fails only that exec.
#[test]
fn a_wrong_pid_file_of_an_exec_fails_the_exec() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let ours = std::process::id();
    node.runtime().after("exec", &format!("kill -9 \"$spawned\"; echo {ours} >\"$pid_file\""));
    shim.exec("web", "probe").unwrap();
    let failure = shim.start("web", "probe").unwrap_err();
    assert!(failure.message.starts_with("failed to retrieve OCI runtime exec pid"), "{failure:?}");
    shim.kill("web", "probe", 9).unwrap_err();
    shim.delete("web", "probe").unwrap();
    node.runtime().reset("exec");
    shim.run_exec("web", "probe");
    shim.remove("web");
}

/// Check that a hanging create blocks neither the shim nor its bundle, and leaves nothing when it
/// is cancelled (measured: the stock shim leaks both).
#[test]
fn a_create_that_hangs_leaves_nothing_when_given_up() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    // The runtime hangs after it has created the container.
    node.runtime().after("create", "sleep 600 & wait");
    let impatient = shim.reconnect().with_deadline(Duration::from_millis(500));
    let request = bundle.create();
    assert!(impatient.create(&request).unwrap_err().is_late());
    shim.delete("web", "").unwrap();
    assert!(!node.runtime_root().join("test/web").exists());
    deadline::until("no child", || shim.process.children().is_empty());
    shim.shut_down();
    assert_eq!(daemon.event_lines(), Vec::<String>::new());
}

/// Check that neither the output of a runtime nor the ids of clients can forge lines in the shim's
/// log.
#[test]
fn output_of_a_runtime_forges_no_line_of_the_log() {
    use crate::harness::Fifo;
    let node = Node::new();
    let bundle = node.bundle("web");
    let _daemon = node.daemon();
    let log = Fifo::make(bundle.path.join("log"));
    let mut reader = log.open_for_reading();
    let shim = node.start_verb(&bundle).flag("-debug").shim();
    node.runtime()
        .before("create", r#"fail 'a\ntime=\"now\" level=info msg=\"forged\" \u001b[2J'"#);
    let failure = shim.create(&bundle.create()).unwrap_err();
    assert!(failure.message.contains("forged"), "{failure:?}");
    let mut text = String::new();
    deadline::until("the log line", || {
        let _ = std::io::Read::read_to_string(&mut reader, &mut text);
        text.contains("create failed")
    });
    assert!(text.lines().all(|line| line.starts_with("time=\"20")), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}
