//! What a person sees: each command on a terminal of 60, 80 and 120 columns.

use std::{
    fs::File,
    io::Read as _,
    process::{Command, Stdio},
};

use lookout::api::{Container, ContainerProcess, Event, Kubernetes};
use nix::pty::{Winsize, openpty};
use unicode_width::UnicodeWidthStr as _;

use super::{
    fake::{Node, Script},
    run::command,
    script::{alive, container, exit, gap, life, open_ports, process, start},
};

/// An id as Kubernetes and Docker make them.
const ID: &str = "5f3a9c5f3a9c5f3a9c5f3a9c5f3a9c5f3a9c5f3a9c5f3a9c5f3a9c5f3a9c5f3a";

/// Runs a command on a terminal of this width, and returns the lines that it prints.
fn shown(node: &Node, args: &[&str], columns: u16, environment: &[(&str, &str)]) -> Vec<String> {
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(Some(&size), None).expect("a terminal");
    let mut command: Command = command(node, args);
    command.env("TZ", "UTC").env("TERM", "xterm").envs(environment.iter().copied());
    let mut child =
        command.stdout(Stdio::from(terminal.slave)).stderr(Stdio::null()).spawn().expect("it runs");
    // The command has copies of the terminal's end, which must not stay open here.
    drop(command);
    let mut bytes = Vec::new();
    // At the end of its other side, reading a terminal fails.
    let _ = File::from(terminal.master).read_to_end(&mut bytes);
    assert!(child.wait().expect("a child").code().is_some_and(|code| code == 0 || code == 5));
    let text = String::from_utf8(bytes).expect("UTF-8");
    text.replace('\r', "").lines().map(str::to_owned).collect()
}

/// A node with a container that has a long id, and one with names of Kubernetes, arguments of CJK,
/// hostile ones and none.
fn node() -> (Node, super::fake::Fake) {
    let node = Node::new();
    let mut app = container("7d4b9c8f6d");
    let k8s = Kubernetes {
        namespace: "shop".into(),
        pod_name: "web-7d4b9c8f6d-x2x4z".into(),
        container_name: "app".into(),
        ..Default::default()
    };
    app.k8s = Some(k8s).into();
    let named = |mut event: Event| {
        event.container = Some(app.clone()).into();
        event
    };
    let cjk = process(4300, 4016, &["/usr/bin/容器", "--说明=每一行都要看得见", "结束"]);
    let mut nameless = process(4301, 4016, &["x"]);
    (nameless.args, nameless.executable) = (Vec::new(), None);
    let hostile = process(4302, 4016, &["sh", "\u{1b}[2J\u{202e}evil\n"]);
    let long = process(4303, 4016, &["/usr/bin/make", &"--long-option ".repeat(9), "the-end"]);
    let mut events = life(ID);
    events
        .extend([cjk.clone(), nameless, hostile, long.clone()].map(|one| named(start(7, "", one))));
    events.extend([named(exit(8, "", long, 2)), named(gap(9, "", Some(12)))]);
    for (seq, event) in (1..).zip(&mut events) {
        event.seq = seq;
    }
    let of_app = |process| ContainerProcess {
        container: Some(Container { k8s: None.into(), ..app.clone() }).into(),
        process: Some(process).into(),
        ..Default::default()
    };
    let mut processes = alive(ID);
    processes.push(of_app(cjk));
    let script = Script {
        events,
        processes,
        ports: open_ports(ID),
        containers: vec![app.clone()],
        ..Default::default()
    };
    let shim = node.shim(ID, script);
    (node, shim)
}

/// An age, which is in days, is another one tomorrow.
fn without_ages(line: &str) -> String {
    let is_age = |word: &&str| {
        let days = word.strip_suffix('d').unwrap_or_default();
        days.len() > 2 && days.bytes().all(|byte| byte.is_ascii_digit())
    };
    line.split_whitespace()
        .filter(is_age)
        .fold(line.to_owned(), |line, word| line.replace(word, &"#".repeat(word.len())))
}

/// Check against reviewed snapshots that no line is wider than the terminal, and that each command
/// shows whom a row is about and what happened.
#[test]
fn each_command_fits_into_the_terminal() {
    let (node, _shim) = node();
    let mut text = String::new();
    for columns in [60, 80, 120] {
        for args in [
            &["events"][..],
            &["ps"],
            &["tree"],
            &["ports"],
            &["exits"],
            &["execs"],
            &["events", "5f3a", "--all", "--utc"],
        ] {
            text.push_str(&format!("$ lookout {}   # {columns} columns\n", args.join(" ")));
            for line in shown(&node, args, columns, &[("NO_COLOR", "1")]) {
                assert!(line.width() <= usize::from(columns), "{} columns: {line}", line.width());
                text.push_str(&(without_ages(&line) + "\n"));
            }
            text.push('\n');
        }
    }
    insta::assert_snapshot!(text);
}

/// Check when colours are printed.
#[test]
fn colours_follow_the_environment_and_the_option() {
    let (node, _shim) = node();
    let is_red = |args: &[&str], environment: &[(&str, &str)]| {
        let lines = shown(&node, &[&["events", "--failures"], args].concat(), 80, environment);
        lines.iter().any(|line| line.contains("\u{1b}[31m"))
    };
    assert!(is_red(&[], &[]));
    assert!(!is_red(&[], &[("NO_COLOR", "1")]));
    assert!(!is_red(&["--color", "never"], &[]));
    assert!(is_red(&["--color", "always"], &[("NO_COLOR", "1")]));
    let piped = |environment: (&str, &str)| {
        let mut command = command(&node, &["events"]);
        let output = command.env(environment.0, environment.1).output().expect("it runs");
        String::from_utf8(output.stdout).expect("UTF-8").contains("\u{1b}[31m")
    };
    assert!(piped(("CLICOLOR_FORCE", "1")) && !piped(("TERM", "xterm")));
}

/// Check that a locale without UTF-8 gets trees of ASCII.
#[test]
fn a_tree_follows_the_locale() {
    let (node, _shim) = node();
    let tree = |locale: &str| shown(&node, &["tree", "5f3a"], 80, &[("LC_ALL", locale)]).join("\n");
    assert!(tree("C").contains("|- ") && !tree("C").contains('├'), "{}", tree("C"));
    assert!(tree("C.UTF-8").contains("├─ "));
}
