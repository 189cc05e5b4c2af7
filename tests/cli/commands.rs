//! The commands for containers, except `lookout events`.

use lookout::api::Exit;
use serde_json::Value;

use super::{
    fake::{Node, Script},
    run::{Running, run},
    script::{TIME_NS, alive, gap, life, open_ports, port_life},
};

fn node_with_web() -> (Node, super::fake::Fake) {
    let node = Node::new();
    let script =
        Script { events: life("web")[..4].to_vec(), processes: alive("web"), ..Default::default() };
    let shim = node.shim("web", script);
    (node, shim)
}

/// Check the list of live processes as a table, as pids and as JSON, and that text of a container
/// is escaped.
#[test]
fn processes_are_listed() {
    let (node, _shim) = node_with_web();
    let ran = run(&node, &["ps"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    insta::assert_snapshot!("ps", ran.out);
    insta::assert_snapshot!("ps_wide", run(&node, &["ps", "-o", "wide", "--container", "web"]).out);
    assert_eq!(run(&node, &["ps", "-q"]).out, "4016\n4017\n4018\n4019\n4211\n");
    assert_eq!(run(&node, &["ps", "-n", "k8s.io", "-q"]).out, "");
    let ran = run(&node, &["ps", "-o", "json"]);
    assert!(!ran.out.contains('\u{1b}'));
    let array: Vec<Value> = serde_json::from_str(&ran.out).expect("an array");
    assert_eq!(array[1]["process"]["command_args"][1], "\u{1b}[2Jit's");
    assert_eq!(array[4]["containerd"]["exec_id"], "probe-1");
}

/// Check the list of open ports as a table, as addresses and as JSON, and the stream of changes.
#[test]
fn ports_are_listed_and_watched() {
    let node = Node::new();
    let _shim = node.shim(
        "web",
        Script { ports: open_ports("web"), events: port_life("web"), ..Default::default() },
    );
    let ran = run(&node, &["ports"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    insta::assert_snapshot!("ports", ran.out);
    insta::assert_snapshot!(
        "ports_wide",
        run(&node, &["ports", "-o", "wide", "--container", "web"]).out
    );
    assert_eq!(run(&node, &["ports", "-q"]).out, "127.0.0.1:8080\n[::]:80\n");
    let ran = run(&node, &["ports", "-o", "json"]);
    assert!(!ran.out.contains('\u{1b}'));
    let array: Vec<Value> = serde_json::from_str(&ran.out).expect("an array");
    assert_eq!(array[0]["network"]["local"]["port"], 8080);
    assert_eq!(array[1]["owners"][1]["pid"], 4019);
    let running = Running::new(&node, &["ports", "-w"]);
    let lines: Vec<String> = (0..5).map(|_| running.line()).collect();
    insta::assert_snapshot!("ports_watched", lines.join("\n"));
    assert_eq!(running.term(), (0, Vec::new()));
    insta::assert_snapshot!("ports_events", run(&node, &["events"]).out);
}

/// Check that commands that wait for ports and exits print a gap in each format, and exit with 5.
#[test]
fn a_gap_is_printed_among_ports_and_exits() {
    let number = |line: &str| -> Value {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    for format in ["table", "wide", "jsonl"] {
        let node = Node::new();
        let mut shim = node.shim("web", Script { processes: alive("web"), ..Default::default() });
        let running = Running::new(&node, &["ports", "-w", "-o", format]);
        shim.emit(gap(1, "web", Some(3)));
        let is_gap = |line: &str| match format {
            "jsonl" => number(line)["type"] == "observer.gap" && number(line)["lost"] == 3,
            _ => line.starts_with("gap ") && line.ends_with(" 3 lost: kernel, 3.000 ms"),
        };
        assert!((0..2).any(|_| is_gap(&running.line())), "{format}");
        assert_eq!(running.term().0, 5, "{format}");
        // The stream of exits reports no gap: it breaks.
        shim.script.lock().expect("a script").exits.push(Exit { pid: 9, ..Default::default() });
        let running = Running::new(&node, &["exits", "-f", "-o", format]);
        let is_exit = |line: &str| line.contains(" 9 ") || line.contains("\"pid\":9");
        assert!((0..2).any(|_| is_exit(&running.line())), "{format}");
        shim.stop();
        let line = running.line();
        let is_unknown = match format {
            "jsonl" => number(&line)["type"] == "observer.gap" && number(&line)["lost"].is_null(),
            _ => line.ends_with(" an unknown number lost: subscriber"),
        };
        assert!(is_unknown, "{format}: {line}");
        assert_eq!(running.term().0, 5, "{format}");
    }
}

/// Check the trees of live processes.
#[test]
fn processes_are_shown_as_trees() {
    let (node, _shim) = node_with_web();
    insta::assert_snapshot!("tree", run(&node, &["tree"]).out);
}

/// Check that earlier exits are read from the journal, and that new exits are followed.
#[test]
fn exits_are_shown_and_followed() {
    let (node, shim) = node_with_web();
    let ran = run(&node, &["exits"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    insta::assert_snapshot!("exits", ran.out);
    let exit = Exit {
        timestamp_ns: TIME_NS,
        pid: 9,
        status: 137,
        container_id: "web".into(),
        ..Default::default()
    };
    shim.script.lock().expect("a script").exits.push(exit);
    let running = Running::new(&node, &["exits", "-f", "-o", "jsonl"]);
    insta::assert_snapshot!("exits_jsonl", running.line());
    assert_eq!(running.term(), (0, Vec::new()));
}

/// Check that capabilities are asked of a shim, and are probed on a node without shims.
#[test]
fn capabilities_come_from_the_shims_or_from_a_probe() {
    let (node, _shim) = node_with_web();
    insta::assert_snapshot!("capabilities", run(&node, &["capabilities"]).out);
    insta::assert_snapshot!("capabilities_json", run(&node, &["capabilities", "-o", "json"]).out);
    assert_eq!(run(&node, &["capabilities", "-q"]).out, "lifecycle\nfile\nnetwork\nprocess\n");
    let ran = run(&Node::new(), &["capabilities", "-o", "json"]);
    let answer: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((ran.code, answer["categories"].as_array().map(Vec::len)), (0, Some(4)));
}

/// Check that a missing capability(7) is named, and that a source which works without it is
/// offered. Needs root.
#[test]
fn a_missing_capability_is_named() {
    let node = Node::new();
    let mut refused = std::process::Command::new("setpriv");
    refused.arg("--bounding-set=-bpf,-perfmon,-sys_admin").arg(env!("CARGO_BIN_EXE_lookout"));
    refused.args(["capabilities", "-o", "json"]).env("LOOKOUT_RUNTIME_DIR", node.path());
    let output = refused.output().expect("setpriv of util-linux");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let lifecycle = &answer["categories"][0];
    assert_eq!(
        (output.status.code(), &lifecycle["support"]),
        (Some(0), &"partial".into()),
        "{answer}"
    );
    assert!(
        ["connector", "poll"].iter().any(|backend| lifecycle["backend"] == *backend),
        "{answer}"
    );
    let reason = lifecycle["reason"].as_str().expect("a reason");
    assert!(reason.contains("CAP_BPF with CAP_PERFMON is missing"), "{reason}");
}

/// Check the page of one container, without the lines that differ from run to run.
#[test]
fn a_container_is_inspected() {
    let (node, _shim) = node_with_web();
    let ran = run(&node, &["inspect", "web"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let text: Vec<_> = ran
        .out
        .lines()
        .filter(|line| !line.starts_with("address") && !line.starts_with("shim"))
        .collect();
    insta::assert_snapshot!("inspect", text.join("\n"));
    let ran = run(&node, &["inspect", "web", "-o", "json"]);
    let page: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(
        (&page["id"], &page["shim"]["id"], page["events"].as_array().map(Vec::len)),
        (&"web".into(), &"web".into(), Some(4))
    );
}

/// Check that the origin of each value is shown, and that an error names the key and the file.
#[test]
fn the_configuration_is_shown() {
    let node = Node::new();
    let file = node.path().join("c.toml");
    std::fs::write(&file, "bus = \"none\"\nlocked = [\"bus\"]").expect("a file");
    let path = file.to_str().expect("UTF-8");
    let ran = run(&node, &["config", "show", "--config", path]);
    assert_eq!(ran.code, 0, "{ran:?}");
    insta::assert_snapshot!("config", ran.out.replace(path, "FILE"));
    std::fs::write(&file, "bus = \"some\"").expect("a file");
    let ran = run(&node, &["config", "show", "--config", path]);
    assert_eq!(
        (ran.code, ran.err),
        (2, format!("lookout: bus in {path}: \"some\" is not ports, processes or none\n"))
    );
}

/// Check the help of each command, and the completion scripts.
#[test]
fn each_command_has_help() {
    let node = Node::new();
    let mut text = String::new();
    for args in [
        &["--help"][..],
        &["events", "--help"],
        &["ps", "--help"],
        &["tree", "--help"],
        &["ports", "--help"],
        &["exits", "--help"],
        &["capabilities", "--help"],
        &["inspect", "--help"],
        &["execs", "--help"],
        &["wait", "--help"],
        &["config", "show", "--help"],
        &["daemon", "--help"],
        &["ping", "--help"],
        &["add", "--help"],
        &["list", "--help"],
        &["tag", "--help"],
        &["rename", "--help"],
        &["kill", "--help"],
        &["rm", "--help"],
        &["run", "--help"],
        &["find", "--help"],
        &["stats", "--help"],
        &["top", "--help"],
        &["snapshot", "load", "--help"],
        &["reset", "--help"],
        &["man", "--help"],
        &["completion", "--help"],
    ] {
        let ran = run(&node, args);
        assert_eq!(ran.code, 0, "{args:?}");
        text.push_str(&format!("$ lookout {}\n{}\n", args.join(" "), ran.out));
    }
    insta::assert_snapshot!("help", text);
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&node, &["completion", shell]).out.contains("lookout"), "{shell}");
    }
}

/// Check that `wait` returns at once if it is so already, at the event otherwise, and with 1 after
/// the timeout or when the container has ended.
#[test]
fn waiting_ends_at_the_event() {
    let node = Node::new();
    let script = Script {
        processes: alive("web"),
        ports: open_ports("web"),
        events: life("web")[..4].to_vec(),
        ..Default::default()
    };
    let shim = node.shim("web", script);
    let wait = |args: &[&str]| run(&node, &[&["wait", "web"], args].concat());
    for (args, line) in [
        (&["--port", "8080"][..], "port tcp 127.0.0.1:8080 loopback by "),
        (&["--port", "9", "--port", "80"], "port tcp [::]:80 "),
        (&["--process", "sh"], "process 4016 /bin/sh"),
        (&["--process", "/bin/sh", "--exit"], "process 4016 /bin/sh"),
        (&["--exec", "probe-1"], "exec probe-1: exit 0\n"),
    ] {
        let ran = wait(args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        assert!(ran.out.starts_with(line), "{args:?}: {}", ran.out);
    }
    let ran = wait(&["--port", "3000", "--timeout", "1"]);
    assert_eq!((ran.code, ran.err.as_str()), (1, "lookout: the timeout has passed\n"));
    assert_eq!(run(&node, &["wait", "nope", "--exit"]).code, 3);
    assert_eq!(wait(&[]).code, 2);
    let mut running = Running::new(&node, &["wait", "web", "--exit", "--port", "3000"]);
    shim.emit(life("web")[4].clone());
    assert_eq!(running.line().trim_end(), "exit: exit 5");
    assert_eq!(running.end(), 0);
    shim.emit(life("web")[5].clone());
    let ran = wait(&["--port", "3000"]);
    assert_eq!((ran.code, ran.err.as_str()), (1, "lookout: container web has ended\n"));
}

/// Check that the execs of a container are listed, as a table and as JSON.
#[test]
fn execs_are_listed() {
    let (node, _shim) = node_with_web();
    let ran = run(&node, &["execs", "web"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    insta::assert_snapshot!("execs", ran.out);
    let ran = run(&node, &["execs", "-o", "json"]);
    let array: Vec<Value> = serde_json::from_str(&ran.out).expect("an array");
    assert_eq!(array[0]["containerd"]["exec_id"], "probe-1");
    // The pid is in the list of live processes, although the exit is in the journal.
    assert_eq!((&array[0]["status"], &array[0]["alive"]), (&0.into(), &vec![4211].into()));
    assert_eq!(run(&node, &["execs", "--left", "-q"]).out, "probe-1\n");
    assert_eq!(run(&node, &["execs", "--filter", "status != 0", "-q"]).out, "");
}
