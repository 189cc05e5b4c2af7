//! The pins outlive shims and loaders that die, and shims outlive the pins.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    super::stage::{Cgroup, Node, Received, run, spawn},
    RING,
};
use crate::observe::{
    record::TargetId,
    source::{Source as _, Target, bpf},
};

/// Check that a sweep removes the entries of a killed shim, and keeps those of a living one.
#[test]
fn entries_of_a_dead_shim_are_swept() {
    let (node, cgroup, other) = (Node::new(), Cgroup::new(), Cgroup::new());
    let mut living = node.source(RING);
    living.watch(cgroup.id(), &cgroup.target()).unwrap();
    // This test program again, as the shim that is killed.
    let mut dying = Command::new(std::env::current_exe().unwrap());
    dying.args([
        "--exact",
        "observe::source::bpf::tests::root::pins::a_shim_that_waits",
        "--include-ignored",
        "--nocapture",
    ]);
    dying
        .env("LOOKOUT_TEST_BPFFS", node.bpffs())
        .env("LOOKOUT_TEST_CGROUP", &other.path)
        .stdin(Stdio::piped());
    let mut dying = spawn(dying.stdout(Stdio::null()));
    while bpf::status(node.bpffs()).unwrap().targets < 2 {
        assert!(dying.try_wait().unwrap().is_none(), "the shim ended early");
    }
    dying.kill().unwrap();
    dying.wait().unwrap();
    let left = bpf::status(node.bpffs()).unwrap();
    assert_eq!((left.slots, left.stale_slots, left.targets), (1, 1, 2));
    let swept = bpf::sweep(node.bpffs()).unwrap();
    assert_eq!((swept.slots, swept.targets), (1, 1));
    run(&mut cgroup.shell("exit 1", &[]));
    assert_eq!(Received::of(&mut living, cgroup.id()).exits().len(), 1);
    drop(living);
    let after = bpf::status(node.bpffs()).unwrap();
    assert_eq!((after.slots, after.stale_slots, after.targets, after.links.len()), (0, 0, 0, 7));
}

/// Check that a loader that is killed at any step does not hinder the next one: each time it leaves
/// a complete set or none.
#[test]
fn a_loader_may_die_at_any_step() {
    let node = Node::new();
    let (mut none, mut complete) = (0, 0);
    // More steps than pins, so that the last round finds the complete set.
    for step in 0..22u32 {
        let mut loader = Command::new(std::env::current_exe().unwrap());
        loader.args([
            "--exact",
            "observe::source::bpf::tests::root::pins::a_loader_that_is_killed",
            "--include-ignored",
        ]);
        let mut loader =
            spawn(loader.env("LOOKOUT_TEST_BPFFS", node.bpffs()).stdout(Stdio::null()));
        let unfinished = node.bpffs().join("lookout/loading");
        let set = node.bpffs().join(format!("lookout/v{}", bpf::ABI));
        // Each round waits for one more pin.
        while fs::read_dir(&unfinished).map_or(0, Iterator::count) < step as usize && !set.exists()
        {
            assert!(loader.try_wait().unwrap().is_none_or(|status| status.success()));
        }
        loader.kill().unwrap();
        loader.wait().unwrap();
        if set.exists() {
            complete += 1;
            let links = bpf::status(node.bpffs()).unwrap().links;
            assert!(links.iter().all(|link| link.ids.is_some()), "{links:?}");
            bpf::unpin(node.bpffs()).unwrap();
        } else {
            none += 1;
        }
    }
    assert!(none > 0 && complete > 0, "{none} without a set, {complete} with a complete one");
    drop(node.source(RING));
    assert!(!node.bpffs().join("lookout/loading").exists());
}

/// Not a test: the loader that [`a_loader_may_die_at_any_step`] kills.
#[test]
#[ignore = "run by another test"]
fn a_loader_that_is_killed() {
    bpf::load(Path::new(&std::env::var_os("LOOKOUT_TEST_BPFFS").unwrap())).unwrap();
}

/// Check that pins are refused in a directory to which another user could have added them.
#[test]
fn a_directory_that_is_open_to_others_is_not_trusted() {
    let node = Node::new();
    let directory = node.bpffs().join("lookout");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o770)).unwrap();
    bpf::load(node.bpffs()).unwrap_err();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    bpf::load(node.bpffs()).unwrap();
    std::os::unix::fs::chown(&directory, Some(1), None).unwrap();
    bpf::BpfSource::open(node.bpffs(), RING, &mut || panic!("the set is pinned already"))
        .unwrap_err();
}

/// Not a test: the shim that [`entries_of_a_dead_shim_are_swept`] kills.
#[test]
#[ignore = "run by another test"]
fn a_shim_that_waits() {
    let bpffs = PathBuf::from(std::env::var_os("LOOKOUT_TEST_BPFFS").unwrap());
    let path = PathBuf::from(std::env::var_os("LOOKOUT_TEST_CGROUP").unwrap());
    let mut source =
        bpf::BpfSource::open(&bpffs, RING, &mut || panic!("the set is pinned already")).unwrap();
    let id = TargetId(fs::metadata(&path).unwrap().ino());
    source.watch(id, &Target::Cgroup { path, pid_namespace: None }).unwrap();
    // The test keeps the other end open, so this waits for the kill.
    std::io::read_to_string(std::io::stdin()).unwrap();
}

/// Check that a shim still receives records after the pins were removed and bpffs was unmounted.
#[test]
fn a_shim_works_without_the_pins() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    bpf::load(node.bpffs()).unwrap();
    let status = bpf::status(node.bpffs()).unwrap();
    assert_eq!((status.versions, status.slots), (vec![format!("v{}", bpf::ABI)], 1));
    assert!(status.links.iter().all(|link| link.ids.is_some()), "{:?}", status.links);
    bpf::unpin(node.bpffs()).unwrap();
    assert!(!node.bpffs().join("lookout").exists());
    drop(node);
    // Watched after the unmount, so the maps must still be writable.
    let other = Cgroup::new();
    source.watch(other.id(), &other.target()).unwrap();
    run(&mut cgroup.shell("/bin/true", &[]));
    run(&mut other.shell("/bin/true", &[]));
    let received = Received::of(&mut source, cgroup.id());
    assert_eq!((received.whats.len(), received.others), (4, 4));
}
