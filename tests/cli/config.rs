//! A configuration file that the user names.

use std::fs;

use super::{
    fake::Node,
    run::{command, run},
};

/// The commands: one of each kind that needs no setting, and all that ask the daemon.
const COMMANDS: &[&[&str]] = &[
    &["events"],
    &["ps"],
    &["tree"],
    &["ports"],
    &["ports", "--daemon"],
    &["exits"],
    &["capabilities"],
    &["inspect", "web"],
    &["config", "show"],
    &["completion", "bash"],
    &["man"],
    &["daemon"],
    &["ping"],
    &["add", "1"],
    &["list"],
    &["tag", "1", "a"],
    &["untag", "1", "a"],
    &["group", "1", "a"],
    &["ungroup", "1", "a"],
    &["rename", "1", "a"],
    &["kill", "1"],
    &["rm", "1"],
    &["run", "--", "true"],
    &["find", "x"],
    &["stats"],
    &["top", "--count", "1"],
    &["snapshot", "save"],
    &["snapshot", "load", "-"],
    &["reset", "--confirm", "RESET"],
];

/// Check that every command refuses a file with a mistake, by `--config` and by `LOOKOUT_CONFIG`,
/// and names the file and, if there is one, the key.
#[test]
fn a_named_file_with_a_mistake_is_refused_by_every_command() {
    let node = Node::new();
    for (name, text, expected) in [
        ("missing.toml", None, "does not exist"),
        ("syntax.toml", Some("bus = "), "failed to parse"),
        ("syntax.json", Some("{"), "failed to parse"),
        ("unknown.toml", Some("buss = \"none\""), "buss in"),
        ("type.toml", Some("bus = { ports = true }"), "bus in"),
        ("value.toml", Some("ring_size = 5"), "ring_size in"),
    ] {
        let file = node.path().join(name);
        text.into_iter().for_each(|text| fs::write(&file, text).expect("a file"));
        let path = file.to_str().expect("UTF-8");
        for args in COMMANDS {
            let named = run(&node, &[&["--config", path], *args].concat());
            assert_eq!((named.code, named.out.as_str()), (2, ""), "{args:?} {named:?}");
            assert!(named.err.contains(path) && named.err.contains(expected), "{named:?}");
            let mut by_variable = command(&node, args);
            let output = by_variable.env("LOOKOUT_CONFIG", path).output().expect("it runs");
            assert_eq!(output.status.code(), Some(2), "{args:?} {output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), named.err, "{args:?}");
        }
        let doctor = run(&node, &["doctor", "--config", path]);
        assert_eq!(doctor.code, 1, "{doctor:?}");
        assert!(doctor.out.contains(path) && doctor.out.contains(expected), "{doctor:?}");
    }
}

/// Check that a file without a mistake changes nothing in a command that needs no setting.
#[test]
fn a_named_file_without_a_mistake_is_accepted() {
    let node = Node::new();
    let file = node.path().join("c.toml");
    fs::write(&file, "bus = \"none\"").expect("a file");
    let ran = run(&node, &["ps", "-q", "--config", file.to_str().expect("UTF-8")]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
}
