//! Runtimes that print, hang, crash and lie.

use std::time::Duration;

use containerd_shim_protos::ttrpc::proto::Code;

use crate::harness::{Node, Process, deadline};

/// Check that a runtime that prints far more than a pipe holds, and fails, is quoted in measure
/// (containerd#4434).
#[test]
fn a_runtime_that_prints_without_end_is_quoted_in_measure() {
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
    node.runtime().behave("create");
    quick.create(&bundle.create()).unwrap();
    for failure in [quick.start("web", "").map(drop), quick.kill("web", "", 9).map(drop)]
        .map(Result::unwrap_err)
    {
        assert!(failure.message.contains("exit status 77"), "{:.200}", failure.message);
        assert!(failure.message.contains("err\nerr"), "{:.200}", failure.message);
        assert!(failure.message.len() < 6000, "{}", failure.message.len());
    }
}

/// Check that a runtime without a log is said to have none, in the stock shim's words.
#[test]
fn a_runtime_without_a_log_is_said_to_have_none() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime().before("create", "exit 3");
    let failure = shim.create(&bundle.create()).unwrap_err();
    let log = bundle.path.join("log.json").display().to_string();
    let runtime = node.runtime().path().display().to_string();
    assert_eq!(
        failure.message,
        format!(
            "OCI runtime create failed: unable to retrieve OCI runtime error (open {log}: no such file or directory): \
             {runtime} create did not terminate successfully: exit status 3"
        )
    );
}

/// Check that of a log the last error of this call counts, garbage in it does not, and an older
/// call's error is not taken for this one's.
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

/// Check that a runtime that crashes is told by its signal.
#[test]
fn a_runtime_that_crashes_is_told_by_its_signal() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime().before("create", "kill -SEGV $$");
    let failure = shim.create(&bundle.create()).unwrap_err();
    assert!(failure.message.contains("exit status 139"), "{failure:?}");
}

/// Check that a pid file that lies fails the create, and that whoever it names is left alone.
#[test]
fn a_pid_file_that_lies_fails_the_create() {
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
        // What there was of it is gone, with its true init.
        assert!(!node.runtime_root().join("test/web").exists());
        assert!(process.lives(), "{content:?}");
        shim.shut_down();
        node.is_deserted();
    }
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// Check that a runtime that writes no pid file fails the create.
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

/// Check that an exec's pid file that lies fails the exec alone.
#[test]
fn an_execs_pid_file_that_lies_fails_the_exec() {
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
    node.runtime().behave("exec");
    shim.run_exec("web", "probe");
    shim.remove("web");
}

/// Check that a create whose runtime hangs takes neither the shim nor its bundle along: given up,
/// it leaves nothing (measured: the stock shim leaks both).
#[test]
fn a_create_that_hangs_leaves_nothing_when_given_up() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    // Half way: the container is there.
    node.runtime().after("create", "sleep 600 & wait");
    let impatient = shim.reconnect().with_deadline(Duration::from_millis(500));
    let request = bundle.create();
    assert!(impatient.create(&request).unwrap_err().is_late());
    shim.delete("web", "").unwrap();
    assert!(!node.runtime_root().join("test/web").exists());
    deadline::until("no child", || shim.process.children().is_empty());
    shim.shut_down();
    assert_eq!(daemon.story(), Vec::<String>::new());
}

/// Check that the words of a runtime and the ids of clients forge no line in the shim's log.
#[test]
fn what_a_runtime_says_forges_no_line_of_the_log() {
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
