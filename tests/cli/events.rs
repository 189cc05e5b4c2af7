//! The command `lookout events`.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    panic::{AssertUnwindSafe, catch_unwind},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use lookout::api::{Container, Kubernetes};
use serde_json::Value;

use super::{
    fake::{Node, Script},
    run::{PATIENCE, Running, command, run},
    script::{alive, gap, life, process, start},
};

/// The seq and the type of an event; the seq is 0 for a hello.
fn seq_and_type(line: &str) -> (u64, String) {
    let event: Value = serde_json::from_str(line).expect("JSON");
    (event["seq"].as_u64().unwrap_or(0), event["type"].as_str().expect("a type").to_owned())
}

/// Check that an event that a command prints, and a line of the daemon's stream, fail a test if
/// they are not as the schema says, also if the test does not read them.
#[test]
fn what_is_not_as_the_schema_says_fails_a_test() {
    let fails = |act: &dyn Fn()| catch_unwind(AssertUnwindSafe(act)).is_err();
    let node = Node::new();
    let mut events = life("web");
    events[0].type_ = "container.begun".to_owned();
    let _shim = node.shim("web", Script { events, ..Default::default() });
    for format in ["json", "jsonl"] {
        assert!(fails(&|| drop(run(&node, &["events", "-o", format]))), "{format}");
    }
    let running = Running::new(&node, &["events", "-f", "-o", "jsonl"]);
    assert!(!fails(&|| drop(running.line())), "a hello is as the schema says");
    assert!(fails(&|| drop(running.line())));
    for (line, is_wrong) in [
        (r#"{"type":"shim.left","epoch":"5f3a"}"#, false),
        (r#"{"type":"shim.left","epoch":"5f3a","seq":1}"#, true),
        (r#"{"type":"stream.begin"}"#, true),
        (r#"{"type":"container.begun","time":"","monotonic_ns":0,"epoch":"5f3a"}"#, true),
        ("no JSON", true),
    ] {
        let stream = || {
            let node = Node::new();
            fs::create_dir(node.path().join("registry")).expect("a new folder");
            let path = node.path().join("registry/stream.jsonl");
            fs::write(path, format!("{line}\n")).expect("a new file");
        };
        assert_eq!(fails(&stream), is_wrong, "{line}");
    }
}

/// Check that without `-f` the command prints the journal and ends.
#[test]
fn without_follow_the_journal_is_printed() {
    let node = Node::new();
    let _shim = node.shim("web", Script { events: life("web"), ..Default::default() });
    let ran = run(&node, &["events"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    insta::assert_snapshot!(ran.out);
    let ran = run(&node, &["events", "-o", "probe"]);
    insta::assert_snapshot!("probe", ran.out);
    let ran = run(&node, &["events", "-o", "json"]);
    let array: Vec<Value> = serde_json::from_str(&ran.out).expect("an array");
    assert_eq!(array.len(), 7, "{array:?}");
    let ran = run(&node, &["events", "-o", "jsonl"]);
    let types: Vec<_> = ran.out.lines().map(seq_and_type).collect();
    assert_eq!(types[0], (0, "hello".to_owned()));
    assert_eq!(types[6], (6, "container.close".to_owned()));
}

/// Check that filters reach the shim, and that a limit ends the command.
#[test]
fn filters_and_limit_restrict_the_output() {
    let node = Node::new();
    let _shim = node.shim("web", Script { events: life("web"), ..Default::default() });
    let seqs = |args: &[&str]| {
        let ran = run(&node, &[&["events", "-o", "jsonl"], args].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.out.lines().map(|line| seq_and_type(line).0).filter(|seq| *seq > 0).collect::<Vec<_>>()
    };
    assert_eq!(seqs(&["--type", "process.exit"]), [4, 5]);
    assert_eq!(seqs(&["--type", "process.*", "--exec-id", "probe-1"]), [3, 4]);
    assert_eq!(seqs(&["--origin", "init"]), [2, 5]);
    assert_eq!(seqs(&["--type", "process.exit", "--failures"]), [5]);
    assert_eq!(seqs(&["--type", "exit,start"]), [2, 3, 4, 5]);
    assert_eq!(seqs(&["--limit", "2"]), [1, 2]);
    assert_eq!(seqs(&["--tail", "2"]), [5, 6]);
    assert_eq!(seqs(&["--filter", "type == 'process.exit' && status != 0"]), [5]);
    assert_eq!(seqs(&["--since", "now"]), [0; 0]);
    assert_eq!(seqs(&["--until", "2020-01-01"]), [0; 0]);
    assert_eq!(seqs(&["we", "--since", "5f3a:4"]), [5, 6], "a prefix of the id");
    assert_eq!(seqs(&["--container", "web", "--since", "5f3a:4"]), [5, 6]);
}

/// Check that `-f` shows only what is new, unless it is asked for more.
#[test]
fn follow_starts_now() {
    let node = Node::new();
    let shim = node.shim("web", Script { events: life("web"), ..Default::default() });
    let seqs = |args: &[&str], count: usize| {
        let running = Running::new(&node, &[&["events", "-f", "-o", "jsonl"], args].concat());
        let read = || seq_and_type(&running.line()).0;
        let first: Vec<u64> = (0..count).map(|_| read()).collect();
        let seq = shim.script.lock().expect("a script").events.len() as u64 + 1;
        shim.emit(start(seq, "web", process(4300, 4016, &["late"])));
        let last = read();
        assert_eq!(running.term().0, 0);
        [first, vec![last]].concat()
    };
    assert_eq!(seqs(&[], 1), [0, 7]);
    assert_eq!(seqs(&["--tail", "2"], 2), [6, 7, 8]);
    assert_eq!(seqs(&["--since", "2020-01-01"], 9), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

/// Check that a container is found by its names in Kubernetes, and that a beginning of two ids is
/// refused with both.
#[test]
fn a_container_is_found_by_its_names() {
    let node = Node::new();
    let named = |id: &str, name: &str| {
        let k8s = Kubernetes {
            namespace: "shop".into(),
            pod_name: "web-0".into(),
            container_name: name.into(),
            ..Default::default()
        };
        let namespace = "default".to_owned();
        Container { namespace, id: id.into(), k8s: Some(k8s).into(), ..Default::default() }
    };
    let script = Script {
        events: [life("5f3a"), life("5f3b")].concat(),
        containers: vec![named("5f3a", "app"), named("5f3b", "sidecar")],
        processes: [alive("5f3a"), alive("5f3b")].concat(),
        ..Default::default()
    };
    let _shim = node.shim("5f3a", script);
    let count = |args: &[&str]| {
        let ran = run(&node, &[&["ps", "-q"], args].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.out.lines().count()
    };
    let one = count(&["5f3a"]);
    assert_eq!(count(&["--pod", "web-0"]), 2 * one);
    assert_eq!(count(&["--pod", "shop/web-0", "--k8s-namespace", "shop"]), 2 * one);
    for name in ["web-0/app", "shop/web-0/sidecar", "default/5f3a"] {
        assert_eq!(count(&[name]), one, "{name}");
    }
    assert_eq!(count(&["web-0"]), 2 * one);
    let ran = run(&node, &["ps", "web-0/app"]);
    assert!(ran.out.lines().skip(1).all(|line| line.starts_with("web-0/app ")), "{ran:?}");
    let ran = run(&node, &["events", "5f"]);
    assert_eq!(ran.code, 2);
    assert_eq!(ran.err, "lookout: 2 containers have an id that begins with 5f: 5f3a, 5f3b\n");
    for nothing in [&["ps", "--pod", "web"][..], &["ps", "--k8s-namespace", "test"]] {
        assert_eq!(run(&node, nothing).code, 3, "{nothing:?}");
    }
}

/// Check that the journals of several shims are merged by time.
#[test]
fn journals_of_several_shims_are_merged_by_time() {
    let node = Node::new();
    let odd = [1, 3, 5].map(|seq| start(seq, "odd", process(4001, 0, &["odd"])));
    let even = [2, 4, 6].map(|seq| start(seq, "even", process(4002, 0, &["even"])));
    let _odd = node.shim("odd", Script { events: odd.to_vec(), ..Default::default() });
    let _even = node.shim("even", Script { events: even.to_vec(), ..Default::default() });
    let ran = run(&node, &["events", "-o", "jsonl"]);
    let seqs: Vec<_> =
        ran.out.lines().map(|line| seq_and_type(line).0).filter(|seq| *seq > 0).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
}

/// Check that `-f` follows new events, and that SIGTERM ends it with a complete JSON array.
#[test]
fn follow_ends_cleanly_on_sigterm() {
    let node = Node::new();
    let shim = node.shim("web", Script { events: life("web"), ..Default::default() });
    let running = Running::new(&node, &["events", "-f", "-o", "json", "--since", "2020-01-01"]);
    let mut text = String::new();
    // The bracket, the hello and five events. The line of the sixth event is complete only when the
    // next event arrives, which writes the comma.
    for _ in 0..7 {
        text.push_str(&running.line());
    }
    shim.emit(start(7, "web", process(4300, 4016, &["late"])));
    text.push_str(&running.line());
    let (code, rest) = running.term();
    text.extend(rest);
    assert_eq!(code, 0);
    let array: Vec<Value> = serde_json::from_str(&text).expect("an array");
    assert_eq!(array[7]["process"]["command_args"], serde_json::json!(["late"]));
}

/// Check that a shim that starts later is followed from its first event.
#[test]
fn a_shim_that_starts_later_is_followed_from_its_first_event() {
    let node = Node::new();
    let _shim = node.shim("web", Script { events: life("web"), ..Default::default() });
    let running = Running::new(&node, &["events", "-f", "-o", "jsonl"]);
    assert_eq!(seq_and_type(&running.line()), (0, "hello".to_owned()));
    let _late = node.shim("late", Script { events: life("late"), ..Default::default() });
    let types: Vec<_> = (0..7).map(|_| seq_and_type(&running.line())).collect();
    assert_eq!((types[0].0, types[1].0, types[6].0), (0, 1, 6));
    assert_eq!(running.term().0, 0);
}

/// Check that the command reconnects and continues at its cursor, so that each event comes once.
#[test]
fn a_broken_connection_is_resumed_at_the_cursor() {
    let node = Node::new();
    let mut shim =
        node.shim("web", Script { events: life("web")[..2].to_vec(), ..Default::default() });
    let running = Running::new(&node, &["events", "-f", "-o", "jsonl", "--tail", "3"]);
    let mut seqs: Vec<_> = (0..3).map(|_| seq_and_type(&running.line()).0).collect();
    // The stream of new events begins where the journal was read to.
    let cursors = || shim.script.lock().expect("a script").since.clone();
    let deadline = Instant::now() + PATIENCE;
    while cursors().len() < 2 {
        assert!(Instant::now() < deadline, "no second subscription");
        thread::sleep(Duration::from_millis(5));
    }
    shim.stop();
    shim.emit(life("web")[2].clone());
    shim.serve();
    seqs.push(seq_and_type(&running.line()).0);
    shim.emit(life("web")[3].clone());
    seqs.push(seq_and_type(&running.line()).0);
    assert_eq!(running.term(), (0, Vec::new()));
    assert_eq!(seqs, [0, 1, 2, 3, 4]);
    assert_eq!(shim.script.lock().expect("a script").since, ["", "5f3a:2", "5f3a:2"]);
}

/// Check that a gap sets the exit status, even if only other types are shown.
#[test]
fn a_gap_sets_the_exit_status() {
    let node = Node::new();
    let mut events = life("web");
    events.push(gap(7, "web", None));
    let _shim = node.shim("web", Script { events, ..Default::default() });
    let ran = run(&node, &["events", "--type", "process.exec", "-o", "jsonl"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    let gap: Value = serde_json::from_str(ran.out.lines().last().expect("a gap")).expect("JSON");
    assert_eq!((&gap["type"], &gap["lost"]), (&"observer.gap".into(), &Value::Null));
}

/// Check that a gap of another container does not set the exit status.
#[test]
fn a_gap_of_another_container_is_ignored() {
    let node = Node::new();
    let mut events = life("web");
    events.push(gap(7, "db", Some(3)));
    let _shim = node.shim("web", Script { events, ..Default::default() });
    assert_eq!(run(&node, &["events", "--container", "web"]).code, 0);
    assert_eq!(run(&node, &["events"]).code, 5);
}

/// Check that a broken stream sets the exit status.
#[test]
fn a_broken_stream_sets_the_exit_status() {
    let node = Node::new();
    let _shim = node
        .shim("web", Script { events: life("web"), breaks_after: Some(3), ..Default::default() });
    let ran = run(&node, &["events", "-o", "jsonl"]);
    assert_eq!((ran.code, ran.out.lines().count()), (5, 4), "{ran:?}");
    assert!(ran.err.contains("lost shim web"), "{ran:?}");
}

/// Check the other exit statuses.
#[test]
fn each_failure_has_its_exit_status() {
    let node = Node::new();
    assert_eq!(run(&node, &["events"]).code, 0, "a node without shims has no events");
    for args in [
        &["events", "--since", "5f3a:1"][..],
        &["events", "--container", "web", "--since", "5f3a"],
        &["events", "--type", "process.nothing"],
        &["events", "--limit", "0"],
        &["nothing"],
        &[],
    ] {
        assert_eq!(run(&node, args).code, 2, "{args:?}");
    }
    assert_eq!(run(&node, &["--help"]).code, 0);
    let _shim = node.shim("web", Script { processes: alive("web"), ..Default::default() });
    for follow in ["--quiet", "--follow"] {
        let args = ["events", "--container", "web", "--since", "5f3a:9", follow];
        assert_eq!(Running::new(&node, &args).end(), 2, "a cursor ahead of the shim, {follow}");
    }
    for command in ["events", "ps", "tree", "exits", "capabilities"] {
        let ran = run(&node, &[command, "--container", "nope"]);
        assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{command}: {ran:?}");
        assert_eq!(ran.err, "lookout: container nope not found\n");
    }
    assert_eq!(run(&node, &["inspect", "nope"]).code, 3);
    node.register("down");
    for command in ["events", "ps", "tree", "exits", "capabilities"] {
        let ran = run(&node, &[command]);
        assert_eq!(ran.code, 4, "{command}: {ran:?}");
        assert!(ran.err.contains("shim down"), "{command}: {ran:?}");
        let ran = run(&node, &[command, "--container", "web"]);
        assert_eq!(ran.code, 0, "{command}: another shim does not concern web: {ran:?}");
    }
}

/// Check that a reader that closes the output early is no failure.
#[test]
fn an_output_that_is_closed_early_is_success() {
    let node = Node::new();
    let events =
        (1..=20_000).map(|seq| start(seq, "web", process(4016, 0, &["/bin/true", "x"]))).collect();
    let _shim = node.shim("web", Script { events, ..Default::default() });
    let mut child = command(&node, &["events"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    let output = child.wait_with_output().expect("a child");
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
    let ran = run(&node, &["events", "-q"]);
    assert_eq!((ran.code, ran.out.lines().count()), (0, 20_000));
    assert_eq!(run(&node, &["events", "-q", "--all"]).out.lines().count(), 20_000);
}

/// Check that a command that waits for events ends as soon as its reader has gone, although nothing
/// happens.
#[test]
fn a_command_that_follows_ends_with_its_reader() {
    let node = Node::new();
    let _shim = node.shim("web", Script { events: life("web"), ..Default::default() });
    for args in [&["ports", "-w"][..], &["events", "-f"], &["exits", "-f"]] {
        let mut child = command(&node, args).stdout(Stdio::piped()).spawn().expect("it runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break status;
            }
            if Instant::now() > deadline {
                child.kill().expect("a child");
                panic!("{args:?} still runs");
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(0), "{args:?}");
    }
}
