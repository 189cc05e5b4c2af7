//! The command `lookout` with the history: of containers that have ended, and of what the journals
//! no longer have.

use std::process::Command;

use serde_json::Value;

use crate::{
    daemon::Node,
    script::{BEGAN_NS, SPACING_NS, Script, Shim},
};

/// How many events each shim has emitted.
const EVENTS: u64 = 300;

/// What a run of the command has printed, and its exit status.
struct Ran {
    out: String,
    err: String,
    code: Option<i32>,
}

fn lookout(node: &Node, args: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_lookout"))
        .args(args)
        .env("LOOKOUT_RUNTIME_DIR", node.path())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { out: text(output.stdout), err: text(output.stderr), code: output.status.code() }
}

/// The sequence numbers of the events that the command prints.
fn seqs(node: &Node, args: &[&str]) -> Vec<u64> {
    let ran = lookout(node, &[&["events", "-o", "jsonl"], args].concat());
    assert_eq!(ran.code, Some(0), "{args:?}: {} {}", ran.err, ran.out);
    let events = ran.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter_map(|event| event["seq"].as_u64()).collect()
}

/// A node of which the history has the events of two shims: one that has ended, and one that lives
/// and has only the last 50 events in its journal.
fn stored() -> (Node, Shim) {
    let mut node = Node::new(&[]);
    let ended = Shim::start(node.path(), Script::new("ended", 100_000));
    let living = Shim::start(node.path(), Script::new("living", 100_000));
    [&ended, &living].into_iter().for_each(|shim| shim.finish_at(EVENTS));
    node.start();
    node.until("the events", || {
        [&ended, &living].iter().all(|shim| node.cursor(&shim.script.epoch()) == EVENTS)
    });
    drop(ended);
    // As if the journal had rolled over: the shim begins again with fewer events.
    drop(living);
    let script = Script { kept: 50, ..Script::new("living", 100_000) };
    let living = Shim::start(node.path(), script);
    living.finish_at(EVENTS);
    (node, living)
}

/// Check that a container that has ended is answered from the history, by each of its names, and
/// with each event once.
#[test]
fn a_container_that_has_ended_is_answered() {
    let (node, _living) = stored();
    let id = Script::new("ended", 1).container_id();
    for name in [id.as_str(), "ended-7d4b9c8f6d-x2x4z", "shop/ended-7d4b9c8f6d-x2x4z/main"] {
        let got: Vec<u64> = seqs(&node, &[name]).into_iter().filter(|seq| *seq <= EVENTS).collect();
        assert_eq!(got, (1..=EVENTS).collect::<Vec<_>>(), "{name}");
    }
    let exits = lookout(&node, &["exits", &id, "-o", "jsonl"]);
    assert_eq!((exits.code, exits.err.as_str()), (Some(0), ""), "{}", exits.out);
    assert!(exits.out.lines().count() as u64 >= EVENTS / 3, "{}", exits.out.lines().count());
    let none = lookout(&node, &["events", "nope"]);
    assert_eq!((none.code, none.err.as_str()), (Some(3), "lookout: container nope not found\n"));
}

/// Check that the events that a journal no longer has come from the history, each event once, and
/// that a command without a container and a time reads the journals only.
#[test]
fn the_history_completes_a_journal() {
    let (node, living) = stored();
    let id = living.script.container_id();
    assert_eq!(seqs(&node, &[&id]), (1..=EVENTS).collect::<Vec<_>>());
    assert_eq!(seqs(&node, &[&id, "--tail", "80"]), (221..=EVENTS).collect::<Vec<_>>());
    let from = lookout::model::rfc3339(BEGAN_NS + 101 * SPACING_NS);
    let to = lookout::model::rfc3339(BEGAN_NS + 111 * SPACING_NS);
    assert_eq!(
        seqs(&node, &[&id, "--since", &from, "--until", &to]),
        (101..111).collect::<Vec<_>>()
    );
    let ran = lookout(&node, &["events", "-o", "jsonl"]);
    assert_eq!(ran.code, Some(5), "the journal has rolled over");
}

/// Check that a daemon with a history that is off completes no journal: the beginning that the
/// journal lacks is a gap, and the status says so.
#[test]
fn a_history_that_is_off_completes_nothing() {
    let mut node = Node::new(&[("LOOKOUT_HISTORY_SIZE", "0")]);
    let script = Script { kept: 50, ..Script::new("living", 100_000) };
    let living = Shim::start(node.path(), script);
    living.finish_at(EVENTS);
    node.start();
    let ran = lookout(&node, &["events", &living.script.container_id(), "-o", "jsonl"]);
    assert_eq!(ran.code, Some(5), "{} {}", ran.err, ran.out);
    let gaps = ran.out.lines().filter(|line| line.contains("observer.gap")).count();
    assert_eq!(gaps, 1, "{}", ran.out);
    assert!(ran.err.contains("history_size"), "{}", ran.err);
}

/// The time between an event of a script and the next one, as an argument.
fn after(seq: u64) -> String {
    let since_1970 = BEGAN_NS + seq * SPACING_NS + SPACING_NS / 2;
    lookout::model::rfc3339(since_1970)
}

/// Check that the processes of an ended container at a time are those that had begun and not ended,
/// and that the tree of a time without any is empty.
#[test]
fn a_tree_of_the_past_has_what_lived_then() {
    let (node, _living) = stored();
    let id = Script::new("ended", 1).container_id();
    // Of each command: 3, 6, 9 … fork, then exec, then exit.
    for (seq, lives) in [(2, false), (3, true), (4, true), (5, false), (151, true), (152, false)] {
        let ran = lookout(&node, &["tree", &id, "--at", &after(seq), "-o", "json"]);
        assert_eq!(ran.code, Some(0), "{seq}: {} {}", ran.err, ran.out);
        let found: Value = serde_json::from_str(&ran.out).unwrap();
        let pids: Vec<u64> = found
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|one| one["process"]["pid"].as_u64())
            .collect();
        assert_eq!(pids.len(), usize::from(lives), "{seq}: {pids:?}");
    }
    let all = lookout(&node, &["tree", "--at", &after(150)]);
    assert_eq!((all.code, all.out.lines().count()), (Some(0), 4), "{} {}", all.err, all.out);
}

/// Check that a container that has ended is inspected, and that the page says that its own exit was
/// not seen.
#[test]
fn an_ended_container_is_inspected() {
    let (node, _living) = stored();
    let id = Script::new("ended", 1).container_id();
    let ran = lookout(&node, &["inspect", &id]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    for line in [
        "pod         shop/ended-7d4b9c8f6d-x2x4z",
        "state       unknown: its shim has ended, and no exit was seen",
        "failures    the last 5 of 15",
        "events      the last 10 of 300",
    ] {
        assert!(ran.out.lines().any(|one| one == line), "{line} is not in {}", ran.out);
    }
    let ran = lookout(&node, &["inspect", "ended-7d4b9c8f6d-x2x4z", "-o", "json"]);
    let page: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&page["state"], &page["failures"]), (&"unknown".into(), &15.into()));
    assert_eq!(page["shim"], Value::Null);
}

/// Check that a report has all processes of a container that has ended, and of one of which the
/// journal no longer has the beginning, each once.
#[test]
fn a_report_is_of_the_history_and_the_journal() {
    let (node, living) = stored();
    let report = |id: &str| -> Value {
        let ran = lookout(&node, &["report", id, "-o", "json"]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
        serde_json::from_str(&ran.out).unwrap()
    };
    for (script, is_running) in [(Script::new("ended", 1), false), (living.script.clone(), true)] {
        let report = report(&script.container_id());
        assert_eq!(report["is_running"], is_running);
        assert_eq!(report["container"]["pod"], format!("{}-7d4b9c8f6d-x2x4z", script.id));
        let processes = report["processes"].as_array().unwrap();
        // Three events for each, and the last one has only its first two.
        assert_eq!(processes.len() as u64, EVENTS / 3 + 1, "{report}");
        assert_eq!(
            (processes[1]["pid"].as_u64(), processes[1]["state"].as_str()),
            (Some(5001), Some("ended"))
        );
    }
}
