//! Tests of the daemon's files: socket, pid file, registry.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{Daemon, Node, Sleeper, command, listed, log_of, ok, registry_of, run};

/// Check that a second daemon prints the pid of the first, that `--force` replaces the first, and
/// that a daemon leaves only its registry after SIGTERM.
#[test]
fn one_daemon_serves_at_a_socket() {
    let node = Node::new();
    let sleeper = Sleeper::new();
    let first = Daemon::start(&node);
    ok(&node, &["add", &sleeper.pid()]);
    assert_eq!(ok(&node, &["daemon"]), format!("{}\n", first.pid()));
    let pid_file = node.path().join("daemon.pid");
    assert_eq!(fs::read_to_string(&pid_file).expect("a file"), format!("{}\n", first.pid()));
    let mode = |name: &str| {
        fs::metadata(node.path().join(name)).expect("it exists").permissions().mode() & 0o777
    };
    for socket in ["daemon.sock", "metrics.sock"] {
        assert_eq!(mode(socket), 0o600, "{socket}");
    }
    assert_eq!(mode("registry"), 0o700);
    let mut second = command(&node, &["daemon", "--force"]);
    let second = Daemon::spawn(&mut second, &node);
    let deadline = std::time::Instant::now() + super::PATIENCE;
    while fs::read_to_string(&pid_file).unwrap_or_default() != format!("{}\n", second.pid()) {
        assert!(std::time::Instant::now() < deadline, "{}", log_of(&node));
    }
    drop(first);
    while run(&node, &["ping"]).code != 0 {
        assert!(std::time::Instant::now() < deadline, "{}", log_of(&node));
    }
    assert_eq!(listed(&node, &["--alive"]).len(), 1);
    let began = std::time::Instant::now();
    assert_eq!(second.term(), 0);
    // Stopping takes less than 100 ms; this allows ten times that.
    assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(run(&node, &["ping"]).code, 4);
    for gone in ["daemon.sock", "metrics.sock", "daemon.pid"] {
        assert!(!node.path().join(gone).exists(), "{gone}");
    }
}

/// Check that a stale socket is replaced, and that a file which is not a socket is kept.
#[test]
fn only_a_stale_socket_is_removed() {
    let node = Node::new();
    Daemon::start(&node).kill();
    assert!(node.path().join("daemon.sock").exists() && node.path().join("daemon.pid").exists());
    Daemon::start(&node).term();
    fs::write(node.path().join("daemon.sock"), "mine").expect("a file");
    let ran = run(&node, &["daemon"]);
    assert_eq!((ran.code, ran.err.contains("not a socket")), (1, true), "{ran:?}");
    assert_eq!(fs::read(node.path().join("daemon.sock")).expect("a file"), b"mine");
}

/// Check that the daemon starts with a damaged registry, keeps a copy of it, and logs its path.
#[test]
fn a_damaged_registry_is_kept_and_logged() {
    let node = Node::new();
    let sleepers = [Sleeper::new(), Sleeper::new(), Sleeper::new()];
    let daemon = Daemon::start(&node);
    sleepers.iter().for_each(|sleeper| drop(ok(&node, &["add", &sleeper.pid()])));
    daemon.term();
    let path = registry_of(&node);
    let text = fs::read_to_string(&path).expect("a file").replace("\"id\":2,", "\"id\":#,");
    fs::write(&path, &text).expect("a file");
    let _daemon = Daemon::start(&node);
    assert_eq!(ok(&node, &["list", "-q"]), "1\n3\n");
    let folder = fs::read_dir(path.parent().expect("a folder")).expect("a folder");
    let aside = folder
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().contains("damaged"))
        .expect("a file");
    assert_eq!(fs::read_to_string(aside.path()).expect("a file"), text);
    assert!(log_of(&node).contains(&aside.path().display().to_string()), "{}", log_of(&node));
}
