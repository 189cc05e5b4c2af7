//! The commands for registered processes.

use std::time::{Duration, SystemTime};

use super::{Daemon, Node, Sleeper, command, listed, ok, run, wait_for};

/// Check the exit status of each error, and that the message names its cause.
#[test]
fn errors_have_their_exit_status_and_message() {
    let node = Node::new();
    let sleeper = Sleeper::new();
    let file = node.path().join("c.toml");
    std::fs::write(&file, "liveness_interval = \"often\"").expect("a file");
    let bad = file.to_str().expect("UTF-8");
    let unreachable = run(&node, &["list"]);
    assert_eq!(unreachable.code, 4);
    assert!(
        unreachable.err.contains("daemon.sock") && unreachable.err.contains("lookout daemon"),
        "{unreachable:?}"
    );
    let ran = run(&node, &["daemon", "--config", bad]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("liveness_interval") && ran.err.contains(bad) && ran.err.contains("often"),
        "{ran:?}"
    );
    let _daemon = Daemon::start(&node);
    ok(&node, &["add", &sleeper.pid(), "--name", "web"]);
    // 2147483647 is above the kernel's limit of pids (PID_MAX_LIMIT).
    for (args, code, message) in [
        (&["add", "2147483647"][..], 3, "no process 2147483647"),
        (&["add", &sleeper.pid()], 1, "as entry 1"),
        (&["add", &sleeper.pid(), "--nmae", "x"], 2, "--nmae"),
        (&["add", "0"], 2, "0"),
        (&["add", "--match", "("], 2, "("),
        (&["tag", "9", "a"], 3, "no entry 9"),
        (&["tag", "1", "a\u{7}"], 2, "\\u{7}"),
        (&["kill", "1", "-s", "NOPE"], 2, "NOPE"),
        (&["kill"], 2, "which entries"),
        (&["rm", "--tag", "unused"], 3, "no entry matches"),
        (&["reset", "--confirm", "yes"], 2, "RESET"),
        (&["run", "--", "/no/such/program"], 3, "/no/such/program"),
        (&["find", "no process has this in it [0-9]{40}"], 3, ""),
    ] {
        let ran = run(&node, args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(ran.err.contains(message), "{args:?}: {ran:?}");
    }
    assert_eq!(listed(&node, &[]).len(), 1);
}

/// Check each command that changes an entry, and each option that selects entries.
#[test]
fn entries_are_changed_and_found() {
    let node = Node::new();
    let (web, db) = (Sleeper::new(), Sleeper::new());
    let _daemon = Daemon::start(&node);
    ok(&node, &["add", &web.pid(), "--name", "web", "--tag", "a", "--tag", "b", "--group", "shop"]);
    ok(&node, &["add", &db.pid(), "--tag", "b"]);
    ok(&node, &["tag", "2", "c", "d"]);
    ok(&node, &["untag", "2", "d"]);
    ok(&node, &["group", "2", "shop", "data"]);
    ok(&node, &["ungroup", "2", "nothing", "shop"]);
    ok(&node, &["rename", "2", "db"]);
    let entry = listed(&node, &["--id", "2"]).remove(0);
    assert_eq!(
        (&entry["tags"], &entry["groups"]),
        (&serde_json::json!(["b", "c"]), &serde_json::json!(["data"]))
    );
    assert_eq!(entry["process"]["command_args"], serde_json::json!(["sleep", "1000"]));
    for (args, ids) in [
        (&["--tag", "a", "--tag", "c"][..], "1\n2\n"),
        (&["--tag-all", "a", "--tag-all", "b"], "1\n"),
        (&["--group", "shop"], "1\n"),
        (&["--group-all", "shop", "--group-all", "data"], ""),
        (&["--pid", &db.pid()], "2\n"),
        (&["--name", "web", "--name", "db", "--tag", "b"], "1\n2\n"),
        (&["--search", "p 100"], "1\n2\n"),
        (&["--search", "nginx"], ""),
        (&["--alive", "--id", "2", "--id", "7"], "2\n"),
    ] {
        assert_eq!(ok(&node, &[&["list", "-q"], args].concat()), ids, "{args:?}");
    }
    let several = run(&node, &["rm", "--tag", "b"]);
    assert_eq!(
        (several.code, several.err.contains("2 entries match (1, 2)")),
        (1, true),
        "{several:?}"
    );
    ok(&node, &["rm", "--tag", "b", "--all"]);
    assert_eq!(ok(&node, &["list", "-q"]), "");
    // The process was removed but not killed, and its id is not used again.
    ok(&node, &["add", &web.pid()]);
    assert_eq!(ok(&node, &["list", "-q"]), "3\n");
}

/// Check that `add --match` prints each refusal once, and with `-q` only the first, and that the
/// exit status is that of the first refusal if nothing was added.
#[test]
fn a_search_prints_each_refusal_once() {
    let node = Node::new();
    let _daemon = Daemon::start(&node);
    let time = format!("9{}", std::process::id());
    let start = || Sleeper::of(std::process::Command::new("sleep").arg(&time));
    let sleepers = [start(), start()];
    let pattern = format!("^sleep {time}$");
    ok(&node, &["add", "--match", &pattern]);
    let refusal = |index: usize| {
        format!(
            "lookout: process {} is registered already, as entry {}\n",
            sleepers[index].pid(),
            index + 1
        )
    };
    let ran = run(&node, &["add", "--match", &pattern]);
    assert_eq!((ran.code, ran.err), (1, refusal(0) + &refusal(1)));
    let ran = run(&node, &["add", "-q", "--match", &pattern]);
    assert_eq!((ran.code, ran.err), (1, refusal(0)));
    // The others are added, which is a success.
    let _third = start();
    let ran = run(&node, &["add", "-q", "--match", &pattern]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "3\n", ""));
}

/// Check that `run` registers a command before it starts, and exits with its status.
#[test]
fn a_command_is_registered_before_it_runs() {
    let node = Node::new();
    let _daemon = Daemon::start(&node);
    let lookout = env!("CARGO_BIN_EXE_lookout");
    // The command lists itself, so it was registered before it started.
    assert_eq!(
        ok(&node, &["run", "--name", "me", "--", lookout, "list", "-q", "--name", "me", "--alive"]),
        "1\n"
    );
    let ran = run(&node, &["run", "--tag", "job", "--", "/bin/sh", "-c", "echo out; exit 7"]);
    assert_eq!((ran.code, ran.out.as_str()), (7, "out\n"));
    let entry = wait_for(&node, 2, |entry| entry["end"]["code"] == 7);
    assert_eq!(
        entry["process"]["command_args"],
        serde_json::json!(["/bin/sh", "-c", "echo out; exit 7"])
    );
    wait_for(&node, 1, |entry| entry["end"]["code"] == 0);
}

/// Check that the end of a process is noticed in time, with its signal.
#[test]
fn an_end_is_noticed_at_once() {
    let node = Node::new();
    let mut sleeper = Sleeper::new();
    let _daemon = Daemon::start(&node);
    ok(&node, &["add", &sleeper.pid()]);
    let killed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    sleeper.end();
    let entry = wait_for(&node, 1, |entry| entry["end"]["signal"] == 9);
    let seen = Duration::from_nanos(entry["end"]["time_ns"].as_u64().expect("a time"));
    // 50 ms are promised; this allows ten times that for a loaded machine.
    assert!(
        seen.saturating_sub(killed) < Duration::from_millis(500),
        "{:?}",
        seen.saturating_sub(killed)
    );
    assert_eq!(entry["last_seen_ns"], entry["end"]["time_ns"]);
    let ran = run(&node, &["kill", "1"]);
    assert_eq!((ran.code, ran.err.contains("has ended")), (1, true), "{ran:?}");
}

/// Check that `kill --tree` kills all descendants, also those in the background, and no other
/// process.
#[test]
fn kill_tree_kills_all_descendants() {
    let node = Node::new();
    let bystander = Sleeper::new();
    let _daemon = Daemon::start(&node);
    let marker = format!("7{}", std::process::id());
    let script = format!("(sleep {marker} & sleep {marker}) & sh -c 'sleep {marker}; true' & wait");
    let mut root = Sleeper::of(&mut command(&node, &["run", "--", "/bin/sh", "-c", &script]));
    let sleeping = || run(&node, &["find", &format!("^sleep {marker}$"), "-q"]).out.lines().count();
    let deadline = std::time::Instant::now() + super::PATIENCE;
    while sleeping() < 3 {
        assert!(std::time::Instant::now() < deadline, "{} sleep", sleeping());
        std::thread::sleep(Duration::from_millis(10));
    }
    ok(&node, &["kill", "--tree", "-s", "KILL", "1"]);
    root.wait();
    while sleeping() > 0 {
        assert!(std::time::Instant::now() < deadline, "{} sleep", sleeping());
        std::thread::sleep(Duration::from_millis(10));
    }
    wait_for(&node, 1, |entry| entry["end"]["signal"] == 9);
    ok(&node, &["add", &bystander.pid()]);
}

/// Check that live and ended entries are saved and loaded with new ids, and that an entry which is
/// registered already is refused.
#[test]
fn a_snapshot_is_saved_and_loaded() {
    let node = Node::new();
    let (one, mut other) = (Sleeper::new(), Sleeper::new());
    let _daemon = Daemon::start(&node);
    ok(&node, &["add", &one.pid(), "--name", "one", "--tag", "t"]);
    ok(&node, &["add", &other.pid(), "--group", "g"]);
    other.end();
    wait_for(&node, 2, |entry| entry["end"]["signal"] == 9);
    let file = node.path().join("snapshot.json");
    let path = file.to_str().expect("UTF-8");
    ok(&node, &["snapshot", "save", path]);
    let twice = run(&node, &["snapshot", "load", path]);
    assert_eq!((twice.code, twice.err.contains("registered already")), (1, true), "{twice:?}");
    ok(&node, &["reset", "--confirm", "RESET"]);
    assert_eq!(listed(&node, &[]).len(), 0);
    assert_eq!(ok(&node, &["snapshot", "load", path]), "3\n4\n");
    let entries = listed(&node, &[]);
    assert_eq!(
        (&entries[0]["name"], &entries[0]["end"]),
        (&"one".into(), &serde_json::Value::Null)
    );
    assert_eq!((&entries[1]["groups"][0], &entries[1]["end"]["signal"]), (&"g".into(), &9.into()));
    // The daemon notices the end of a loaded process too.
    ok(&node, &["kill", "3"]);
    wait_for(&node, 3, |entry| entry["end"].is_object());
}

/// Check the resource usage in `stats` and in `top`.
#[test]
fn resource_usage_is_shown() {
    let node = Node::new();
    let _daemon = Daemon::start(&node);
    let mut busy =
        command(&node, &["run", "--name", "busy", "--", "/bin/sh", "-c", "while :; do :; done"]);
    let _busy = Sleeper::of(&mut busy);
    let sleeper = Sleeper::new();
    let deadline = std::time::Instant::now() + super::PATIENCE;
    while ok(&node, &["list", "-q"]) != "1\n" {
        assert!(std::time::Instant::now() < deadline);
    }
    ok(&node, &["add", &sleeper.pid(), "--name", "sleeps"]);
    let stats: Vec<serde_json::Value> =
        serde_json::from_str(&ok(&node, &["stats", "-o", "json"])).expect("an array");
    assert_eq!(stats.len(), 2);
    assert!(
        stats.iter().all(|one| one["rss_bytes"].as_u64() > Some(100_000) && one["threads"] == 1),
        "{stats:?}"
    );
    let tree = [
        "run",
        "--name",
        "tree",
        "--",
        "/bin/sh",
        "-c",
        "exec 3<&0; sh -c 'read y' --password=xyz <&3 & read x <&3",
    ];
    let mut tree = Sleeper::of(command(&node, &tree).stdin(std::process::Stdio::piped()));
    let of_tree = || {
        let out = ok(&node, &["stats", "--tree", "--name", "tree", "-o", "json"]);
        serde_json::from_str::<Vec<serde_json::Value>>(&out).expect("an array")
    };
    while of_tree().len() < 2
        || !of_tree()[1]["command"].as_str().is_some_and(|text| text.starts_with("sh -c"))
    {
        assert!(std::time::Instant::now() < deadline, "{:?}", of_tree());
    }
    let descendant = of_tree().remove(1);
    assert_eq!((&descendant["descends_from"], descendant.get("id")), (&3.into(), None));
    assert_eq!(descendant["command"], "sh -c read y --password=[redacted]");
    ok(&node, &["kill", "--tree", "3"]);
    tree.wait();
    let top = ok(&node, &["top", "--count", "1", "--interval", "300ms"]);
    let rows: Vec<&str> = top.lines().skip(3).collect();
    assert!(rows[0].contains("busy") && rows[1].contains("sleeps"), "{top}");
}

/// Check that each command has a manual page.
#[test]
fn each_command_has_a_manual_page() {
    let node = Node::new();
    let folder = node.path().join("man");
    ok(&node, &["man", folder.to_str().expect("UTF-8")]);
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a page");
    assert!(text("lookout.1").contains(".TH lookout 1"));
    assert!(text("lookout-kill.1").contains("\\-\\-tree"));
    assert!(ok(&node, &["man"]).contains(".TH lookout 1"));
}
