//! A journal that has rolled over: a reader from the beginning, or from a cursor, gets a gap
//! with the number of events that are missing, and exit status 5.

use std::{fs, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::super::daemon;
use crate::harness::{
    containerd::{Containerd, Output, Version},
    deadline, schema,
};

/// What `lookout` exits with if data are incomplete.
const INCOMPLETE: i32 = 5;

/// A containerd with containers that have made more events than their shims' journals hold.
fn rolled(containers: &[&str]) -> Containerd {
    let containerd = Containerd::start_configured(Version::V1_7, "journal_max = \"64KiB\"\n");
    for id in containers {
        containerd.detached(id, &[], &["sleep", "1000"]);
        let script = "i=0; while [ $i -lt 300 ]; do /bin/true $i; i=$((i+1)); done";
        containerd.exec(id, &[], &["sh", "-c", script]).run().success();
        deadline::until("the journal to roll over", || first(&containerd, id) > 1);
    }
    containerd
}

/// The sequence number of the oldest event in the journal of a container's shim.
fn first(containerd: &Containerd, id: &str) -> u64 {
    let events = containerd.lookout(&["events", "-o", "jsonl", "--container", id]).run();
    let lines = json_lines(&events);
    lines.iter().find_map(|line| line["seq"].as_u64()).expect("an event")
}

fn json_lines(output: &Output) -> Vec<Value> {
    let text = output.stdout_text();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn remove(containerd: &Containerd, containers: &[&str]) {
    for id in containers {
        containerd.ctr(&["task", "kill", "--signal", "SIGKILL", id]);
        containerd.remove(id);
    }
    containerd.assert_nothing_left();
}

/// The `lost` of the gaps among events, in their order.
fn lost(events: &[Value]) -> Vec<Value> {
    let gaps = events.iter().filter(|event| event["type"] == "observer.gap");
    gaps.map(|gap| gap["lost"].clone()).collect()
}

/// Check that `events` has the gap in each format, for one container and for several, once for each
/// journal and before its first event; and that the gap does not count for `--limit`.
#[test]
fn events_of_a_journal_that_rolled_over_begin_with_a_gap() {
    let containerd = rolled(&["a", "b"]);
    let missing = ["a", "b"].map(|id| first(&containerd, id) - 1);
    let run = |arguments: &[&str]| {
        containerd.lookout(&[&["events"], arguments].concat()).run().exit_code(INCOMPLETE)
    };
    for format in ["jsonl", "json"] {
        let events = |arguments: &[&str]| -> Vec<Value> {
            let output = run(&[&["-o", format], arguments].concat());
            match format {
                "json" => serde_json::from_str(&output.stdout_text()).expect("an array"),
                _ => json_lines(&output),
            }
        };
        let one = events(&["--container", "a"]);
        assert_eq!(lost(&one), [missing[0]], "{format}");
        assert_eq!(
            (&one[1]["stage"], &one[2]["seq"]),
            (&"journal".into(), &(missing[0] + 1).into())
        );
        let mut both: Vec<u64> = lost(&events(&[])).iter().filter_map(Value::as_u64).collect();
        both.sort_unstable();
        let mut expected = missing;
        expected.sort_unstable();
        assert_eq!(both, expected, "{format}");
        let few = events(&["--container", "a", "--limit", "2", "--type", "process.exit"]);
        assert_eq!((lost(&few).len(), few.len()), (1, 4), "{few:?}");
    }
    for format in ["table", "wide"] {
        let row = |missing: u64| format!(" {missing} lost: journal\n");
        let one = run(&["-o", format, "--container", "b"]).stdout_text();
        assert!(one.contains(&row(missing[1])) && one.matches(" lost: ").count() == 1, "{one}");
        let both = run(&["-o", format]).stdout_text();
        assert!(missing.iter().all(|missing| both.contains(&row(*missing))), "{both}");
    }
    let probe = run(&["-o", "probe", "--container", "a"]);
    assert_eq!(probe.stderr_text(), format!("lookout: {} lost: journal\n", missing[0]));
    remove(&containerd, &["a", "b"]);
}

/// Check that the events after a cursor, and those with `-f`, begin with the gap, and that the
/// number is not known after a cursor of another run of the shim.
#[test]
fn events_after_a_cursor_begin_with_a_gap() {
    let containerd = rolled(&["c"]);
    let output = containerd.lookout(&["events", "-o", "jsonl"]).run().exit_code(INCOMPLETE);
    let events = json_lines(&output);
    let epoch = events[0]["epoch"].as_str().expect("an epoch");
    let oldest = first(&containerd, "c");
    for (cursor, missing) in [
        (format!("{epoch}:1"), Some(oldest - 2)),
        (format!("{epoch}:{}", oldest - 2), Some(1)),
        ("another:1".to_owned(), None),
    ] {
        let since = ["events", "--container", "c", "--since", &cursor];
        let output = containerd.lookout(&[&since[..], &["-o", "jsonl"]].concat()).run();
        assert_eq!(lost(&json_lines(&output.exit_code(INCOMPLETE))), [Value::from(missing)]);
        let text = containerd.lookout(&since).run().exit_code(INCOMPLETE).stdout_text();
        let number = missing.map_or("an unknown number".to_owned(), |lost| lost.to_string());
        assert!(text.contains(&format!(" {number} lost: journal\n")), "{cursor}: {text}");
    }
    let whole = format!("{epoch}:{}", oldest - 1);
    let arguments = ["events", "--container", "c", "--since", &whole, "-o", "jsonl"];
    assert_eq!(lost(&json_lines(&containerd.lookout(&arguments).run().exit_code(0))).len(), 0);
    for arguments in
        [&["-f", "--since", "2020-01-01"][..], &["-f", "c", "--since", &format!("{epoch}:1")]]
    {
        let flags = [&["events", "-o", "jsonl"], arguments].concat();
        let printed = containerd.path("printed");
        let script = format!("exec \"$@\" >{}", printed.display());
        let following = containerd.lookout_under(&["sh", "-c", &script, "sh"], &flags).spawn();
        let read = || fs::read_to_string(&printed).unwrap_or_default();
        deadline::until("it to have printed the gap", || read().contains("observer.gap"));
        following.signal(Signal::SIGTERM);
        following.wait().exit_code(INCOMPLETE);
        schema::assert_output_fits(&read());
        assert_eq!(read().matches("observer.gap").count(), 1, "{arguments:?}");
        fs::remove_file(&printed).expect("it is there");
    }
    remove(&containerd, &["c"]);
}

/// Check that `exits` and `inspect` have the gap in each format.
#[test]
fn exits_and_inspect_report_the_gap() {
    let containerd = rolled(&["c"]);
    let missing = first(&containerd, "c") - 1;
    let run = |arguments: &[&str]| containerd.lookout(arguments).run().exit_code(INCOMPLETE);
    for scope in [&[][..], &["--container", "c"]] {
        let exits = |format| run(&[&["exits", "-o", format], scope].concat());
        assert_eq!(lost(&json_lines(&exits("jsonl"))), [missing]);
        let array: Vec<Value> =
            serde_json::from_str(&exits("json").stdout_text()).expect("an array");
        assert_eq!(lost(&array), [missing]);
        for format in ["table", "wide"] {
            let text = exits(format).stdout_text();
            assert!(text.contains(&format!(" {missing} lost: journal\n")), "{text}");
        }
    }
    let page: Value =
        serde_json::from_str(&run(&["inspect", "c", "-o", "json"]).stdout_text()).expect("JSON");
    assert_eq!((&page["lost"]["events"], &page["lost"]["gaps"]), (&missing.into(), &1.into()));
    let text = run(&["inspect", "c"]).stdout_text();
    assert!(text.contains(&format!("\nlost        {missing} events, in 1 gap\n")), "{text}");
    // These show the present and read no journal.
    for command in ["ps", "tree", "ports"] {
        for format in ["table", "json"] {
            containerd.lookout(&[command, "-o", format]).run().exit_code(0);
        }
    }
    remove(&containerd, &["c"]);
}

/// Check that a daemon that starts after the roll-over writes the gap to its stream, once.
#[test]
fn the_daemons_stream_begins_with_the_gap() {
    let containerd = rolled(&["c"]);
    let missing = first(&containerd, "c") - 1;
    let path = containerd.path("lookout/registry/stream.jsonl");
    for _ in 0..2 {
        let mut daemon = daemon::start(&containerd.path("lookout"));
        let gaps = || -> Vec<Value> {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let of_journal = |line: &Value| line["stage"] == "journal";
            lines.filter(of_journal).map(|gap| gap["lost"].clone()).collect()
        };
        deadline::within(Duration::from_secs(20), "the gap", || gaps() == [missing]);
        deadline::until("the daemon to know the container", || {
            let answer = containerd.lookout(&["ports", "--daemon", "--container", "c"]).run();
            answer.code == 0
        });
        daemon.kill().expect("our own child");
        daemon.wait().expect("our own child");
        assert_eq!(gaps(), [missing]);
    }
    remove(&containerd, &["c"]);
}
