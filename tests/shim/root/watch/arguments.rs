//! Hostile arguments are reported correctly, truncated, marked, and without harm to a terminal.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use crate::harness::containerd::{Containerd, Version};

/// Check that 100 kB of arguments are reported truncated, with their true number and length.
#[test]
fn long_arguments_are_truncated_and_marked() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    let long = "x".repeat(100_000);
    containerd.run("c", &["--rm"], &["true", "a", &long, "z"]).run().success();
    let start = subscriber.wait(super::STORM, "a start", |event| event.kind() == "process.start");
    assert_eq!(start.args()[..2], ["true", "a"], "{:.300}", format!("{start:?}"));
    assert!(start.args()[2].len() >= 4000 && long.starts_with(start.args()[2]), "a true beginning");
    assert_eq!(start.number("/process/args_count"), Some(4));
    assert_eq!(start.number("/process/args_bytes"), Some(5 + 2 + 100_001 + 2));
    assert_eq!(start.at("/process/args_truncated"), true);
    subscriber.wait_close("c");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that empty arguments, newlines, escape sequences and bytes that are not UTF-8 are reported
/// exactly in JSON, and escaped on a terminal.
#[test]
fn hostile_arguments_are_reported_exactly_and_harm_no_terminal() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    let script = r#"/bin/true "" "$(printf 'two\nlines')" "$(printf '\033[31mred\007')" "$(printf '\377\376')" 'back\slash'; true"#;
    containerd.detached("c", &[], &["sh", "-c", &format!("{script}; sleep 1000")]);
    let start = subscriber.wait(super::STORM, "a start", |event| {
        event.kind() == "process.start" && event.args().first() == Some(&"/bin/true")
    });
    let expected =
        ["/bin/true", "", "two\nlines", "\u{1b}[31mred\u{7}", "\\xff\\xfe", "back\\\\slash"];
    assert_eq!(start.args(), expected, "{start:?}");
    assert_eq!(start.at("/process/escaped"), true, "{start:?}");
    for view in [
        &["events", "--no-trunc"][..],
        &["events", "-o", "wide"],
        &["ps"],
        &["tree"],
        &["events", "-o", "probe"],
    ] {
        let shown = containerd.lookout(view).run().stdout;
        let harmful = shown.iter().find(|byte| **byte < 0x20 && **byte != b'\n');
        assert_eq!(harmful, None, "{view:?}: {}", String::from_utf8_lossy(&shown));
        assert!(String::from_utf8(shown).is_ok(), "{view:?}");
    }
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    containerd.remove("c");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that a secret in an argument appears in no output.
#[test]
fn a_secret_appears_in_no_output() {
    let containerd = Containerd::start_configured(Version::V1_7, "bus = \"processes\"\n");
    let (subscriber, events) = (containerd.subscribe(), containerd.events());
    let canary = "c4n4ry-9f8e7d6c5b4a";
    let script = format!(
        "/bin/true --password={canary} --token {canary} https://me:{canary}@host/; sleep 1000"
    );
    containerd.detached("c", &[], &["sh", "-c", &script]);
    let start = subscriber.wait(super::STORM, "a start", |event| {
        event.kind() == "process.start" && event.args().first() == Some(&"/bin/true")
    });
    assert_eq!(start.at("/process/args_redacted"), true, "{start:?}");
    assert_eq!(start.args().len(), 5, "{start:?}");
    events
        .wait(super::STORM, "a start on the bus", |event| event.topic == "/lookout/process-start");
    let of_shell = subscriber.all();
    for event in of_shell {
        assert!(!event.0.to_string().contains(canary), "{event:?}");
    }
    for event in events.all().iter().filter(|event| event.topic.starts_with("/lookout/")) {
        assert!(!event.body.to_string().contains(canary), "{event:?}");
    }
    for output in ["table", "wide", "json", "jsonl", "probe"] {
        let shown = containerd.lookout(&["events", "--no-trunc", "-o", output]).run().stdout_text();
        assert!(shown.contains("true") && !shown.contains(canary), "{output}: {shown}");
    }
    for view in ["ps", "tree"] {
        assert!(
            !containerd.lookout(&[view, "--no-trunc"]).run().stdout_text().contains(canary),
            "{view}"
        );
    }
    assert!(!containerd.log().contains(canary), "in containerd's log");
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    containerd.remove("c");
    drop((subscriber, events));
    containerd.assert_nothing_left();
}

/// A command line of `tests/data`, with a number by which its process is found.
struct CommandLine {
    number: usize,
    args: Vec<String>,
    /// What subscribers should see: `[redacted]` in place of each secret.
    expected: Vec<String>,
}

/// Every fifth command line of `tests/data/redaction*.tsv`. Each is run as the further arguments of
/// `sh -c ': NUMBER'`, which ignores them.
fn command_lines() -> Vec<CommandLine> {
    let files = ["redaction.tsv", "redaction-more.tsv", "redaction-forms.tsv"];
    let texts = files.map(|file| {
        let path = format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
        fs::read_to_string(path).expect("the file exists")
    });
    let lines = texts.iter().flat_map(|text| text.lines().filter(|line| !line.starts_with('#')));
    lines
        .enumerate()
        .step_by(5)
        .map(|(number, line)| {
            let json = line.splitn(3, '\t').nth(2).expect("three columns");
            let marked: Vec<String> = serde_json::from_str(json).expect("a list of strings");
            let args = marked.iter().map(|arg| arg.replace(['«', '»'], "")).collect();
            let expected = marked
                .iter()
                .map(|arg| {
                    let parts = arg.split(['«', '»']).enumerate();
                    parts
                        .map(|(index, part)| if index % 2 == 0 { part } else { "[redacted]" })
                        .collect()
                })
                .collect();
            CommandLine { number, args, expected }
        })
        .collect()
}

/// Check that subscribers see the command lines of real tools without their secrets, and otherwise
/// as they were.
#[test]
fn command_lines_of_real_tools_are_seen_without_their_secrets() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    let lines = command_lines();
    let mut script = String::new();
    for line in &lines {
        let quoted = line.args.iter().map(|arg| format!("'{}'", arg.replace('\'', "'\\''")));
        let words = quoted.collect::<Vec<_>>().join(" ");
        writeln!(script, "/bin/sh -c ': {}' {words}", line.number).expect("a string grows");
    }
    fs::write(containerd.path("lines"), script + "/bin/sh -c ': end'\n").expect("our directory");
    let mount = super::super::mount_of_our_folder(&containerd);
    containerd.detached("c", &["--mount", &mount], &["sh", "/host/lines"]);
    subscriber.wait(super::STORM, "the last line", |event| {
        event.kind() == "process.start" && event.args().get(2) == Some(&": end")
    });
    let seen: BTreeMap<String, Vec<String>> = subscriber
        .all()
        .iter()
        .filter(|event| event.kind() == "process.start")
        .filter_map(|event| {
            let args = event.args();
            let number = args.get(2)?.strip_prefix(": ")?.to_owned();
            Some((number, args[3..].iter().map(|arg| (*arg).to_owned()).collect()))
        })
        .collect();
    let mut wrong = Vec::new();
    for line in &lines {
        let seen = &seen[&line.number.to_string()];
        if *seen != line.expected {
            wrong.push(format!("{seen:?} instead of {:?}", line.expected));
        }
    }
    // The unit tests have the exact shares; here most lines suffice to see the rules at work.
    assert!(wrong.len() * 20 <= lines.len(), "{} of {}: {wrong:#?}", wrong.len(), lines.len());
    containerd.wait_for_status("c", "STOPPED");
    containerd.remove("c");
    drop(subscriber);
    containerd.assert_nothing_left();
}
