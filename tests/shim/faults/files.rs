//! Files in the bundle that are not what the shim expects: FIFOs, links, huge files, wrong times.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

use nix::{sys::stat::Mode, unistd::mkfifo};

use crate::harness::{Node, delete};

fn make_fifo(path: &Path) {
    mkfifo(path, Mode::from_bits_truncate(0o600)).unwrap();
}

/// The longest time in which a request must be answered that only meets a strange file.
const SOON: Duration = Duration::from_secs(5);

/// Check that a runtime that makes a FIFO, a link or a huge file in place of its pid file or of its
/// log fails its own create alone: the shim serves other requests meanwhile and afterwards.
#[test]
fn no_file_of_a_runtime_stops_the_shim() {
    let strange = [
        ("a FIFO as pid file", "after", "rm -f \"$pid_file\"; mkfifo \"$pid_file\""),
        (
            "a link as pid file",
            "after",
            "mv \"$pid_file\" \"$home/true\"; ln -s \"$home/true\" \"$pid_file\"",
        ),
        ("a huge pid file", "after", "truncate -s 100M \"$pid_file\""),
        ("a device as pid file", "after", "rm -f \"$pid_file\"; ln -s /dev/zero \"$pid_file\""),
        ("a FIFO as log", "before", "rm -f \"$log\"; mkfifo \"$log\"; exit 1"),
        ("a link as log", "before", "rm -f \"$log\"; ln -s /dev/zero \"$log\"; exit 1"),
        ("a huge log", "before", "truncate -s 1T \"$log\"; exit 1"),
    ];
    let node = Node::new();
    let [web, other] =
        ["web", "other"].map(|id| node.bundle(id).annotated("io.containerd.runc.v2.group", "pod"));
    let shim = node.shim(&other);
    shim.run(&other);
    for (what, when, script) in strange {
        match when {
            "after" => node.runtime().after("create", script),
            _ => node.runtime().before("create", script),
        }
        let quick = shim.reconnect().with_deadline(SOON);
        let failure = quick.create(&web.create()).unwrap_err();
        assert!(!failure.is_late(), "{what}: {failure:?}");
        assert!(quick.state("other", "").is_ok(), "{what}");
        assert!(!node.runtime_root().join("test/web").exists(), "{what}");
        node.runtime().reset("create");
        let _ = fs::remove_file(web.path.join("init.pid"));
    }
    let resident = shim.process.resident_kib();
    assert!(resident < 64 << 10, "{resident} KiB");
    shim.run(&web);
    shim.remove("web");
    shim.remove("other");
}

/// Check that `delete` ends at once whatever its files are, and does not believe a link.
#[test]
fn no_file_of_a_bundle_stops_delete() {
    let files = ["config.json", "options.json", "exit.json", "init.pid", "address", "runtime"];
    for make in [
        make_fifo as fn(&Path),
        |path| symlink("/dev/zero", path).unwrap(),
        |path| fs::create_dir(path).unwrap(),
        |path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap(),
    ] {
        let node = Node::new();
        let bundle = node.bundle("web");
        for file in files {
            let path = bundle.path.join(file);
            let _ = fs::remove_file(&path);
            make(&path);
        }
        let begun = Instant::now();
        let response = delete(&node, &bundle).response;
        assert_eq!((response.pid, response.exit_status), (0, 137));
        assert!(begun.elapsed() < SOON);
    }
}

/// Check that a file that the shim cannot write fails the create, and that the shim goes on.
#[test]
fn a_fifo_in_place_of_a_file_to_write_fails_the_create() {
    for name in ["options.json", "runtime"] {
        let node = Node::new();
        let [web, other] = ["web", "other"]
            .map(|id| node.bundle(id).annotated("io.containerd.runc.v2.group", "pod"));
        let shim = node.shim(&other);
        shim.run(&other);
        make_fifo(&web.path.join(name));
        let quick = shim.reconnect().with_deadline(SOON);
        let failure = quick.create(&web.create()).unwrap_err();
        assert!(failure.message.contains(name), "{failure:?}");
        fs::remove_file(web.path.join(name)).unwrap();
        shim.run(&web);
        shim.remove("web");
        shim.remove("other");
    }
}

/// Check that a recorded time that no clock can show is no exit, and that `delete` reports the
/// container as killed now.
#[test]
fn a_time_that_overflows_is_no_exit() {
    for time in [
        "18446744073709551615.4294967295",
        "18446744073709551615.0",
        "9223372036854775807.999999999",
        "1.4294967295",
        "1.18446744073709551615",
    ] {
        let node = Node::new();
        let bundle = node.bundle("web");
        let exit = format!(r#"{{"pid":7,"exit_status":3,"exited_at":"{time}"}}"#);
        fs::write(bundle.path.join("exit.json"), exit).unwrap();
        let deleted = delete(&node, &bundle);
        assert_eq!(deleted.response.exit_status, 137, "{time}");
        let seconds = deleted.response.exited_at.seconds;
        assert!((1_700_000_000..253_402_300_799).contains(&seconds), "{time}: {seconds}");
    }
}
