//! Checkpoint and restore with CRIU 4.

use std::{fs, os::unix::fs::symlink};

use crate::harness::{
    containerd::{Containerd, IMAGE, Runtime, Version},
    deadline,
    tools::SHIM,
};

on_every_containerd! {
    a_restored_container_continues_where_it_was,
    a_checkpoint_may_end_the_container,
    a_failed_checkpoint_is_reported_and_the_container_continues,
}

/// Counts in memory, and writes the count to a file.
const COUNTER: &str =
    "i=0; while :; do i=$((i+1)); echo $i >/count.new; mv /count.new /count; usleep 10000; done";

fn count(containerd: &Containerd, id: &str) -> u64 {
    let path = format!("/proc/{}/root/count", containerd.pid(id));
    deadline::find("the counter to count", || fs::read_to_string(&path).ok()?.trim().parse().ok())
}

/// Checkpoints a running counter into an image, removes it, and restores it under another name. It
/// must continue from the checkpointed count.
fn continues_where_it_was(version: Version, runtime: Runtime) {
    let containerd = Containerd::start_with(version, runtime);
    let events = containerd.events();
    containerd.detached("c", &[], &["sh", "-c", COUNTER]);
    deadline::until("the counter to get somewhere", || count(&containerd, "c") >= 40);
    containerd
        .ctr(&["container", "checkpoint", "--task", "--rw", "--image", "c", "kept/c"])
        .success();
    assert_eq!(
        containerd.status("c").as_deref(),
        Some("RUNNING"),
        "a checkpoint leaves it running"
    );
    let later = count(&containerd, "c");
    containerd.remove("c");
    containerd.assert_nothing_left();

    containerd.ctr(&["container", "restore", "--live", "--rw", "d", "kept/c"]).success();
    let begun = count(&containerd, "d");
    assert!(begun >= 40, "the counter begins at {begun}, where it was past 40");
    deadline::until("the restored counter to go on", || count(&containerd, "d") > later);
    containerd.exec("d", &[], &["sh", "-c", "exit 3"]).run().exit_code(3);
    let pid = containerd.pid("d");
    assert!(
        containerd.ctr(&["task", "ps", "d"]).success().stdout_text().contains(&pid.to_string())
    );
    containerd.remove("d");
    events.wait_topic("/tasks/delete", "d");
    let topics =
        events.of("d").into_iter().filter(|event| !event.contains("exec-")).collect::<Vec<_>>();
    assert_eq!(topics, ["create", "start", "exit", "delete"]);
    let start = events.find(|event| event.is("/tasks/start", "d")).expect("in the list");
    assert_eq!(start.number("pid"), u64::try_from(pid).expect("a pid"));
    containerd.assert_nothing_left();
}

/// Check that a restored container continues from its checkpoint under runc 1.3.
fn a_restored_container_continues_where_it_was(version: Version) {
    continues_where_it_was(version, Runtime::Runc1_3);
}

/// Check that a restored container continues from its checkpoint under runc 1.1, too.
#[test]
fn under_runc_1_1_a_restored_container_continues_where_it_was() {
    continues_where_it_was(Version::V2_1, Runtime::Runc1_1);
}

/// Check that a checkpoint with `--exit` writes the image to the given path and ends the container.
fn a_checkpoint_may_end_the_container(version: Version) {
    let containerd = Containerd::start(version);
    // ctr passes its options only to a runtime with this name, so the shim runs under that name.
    symlink(SHIM, containerd.path("bin/containerd-shim-runc-v2"))
        .expect("our directory is writable");
    containerd
        .ctr(&[
            "run",
            "--detach",
            "--runtime",
            "io.containerd.runc.v2",
            IMAGE,
            "c",
            "sh",
            "-c",
            COUNTER,
        ])
        .success();
    containerd.shim("c");
    count(&containerd, "c");
    let (image, work) = (containerd.path("image"), containerd.path("work"));
    let paths = ["--image-path", &image.to_string_lossy(), "--work-path", &work.to_string_lossy()];
    containerd.ctr(&[&["task", "checkpoint", "--exit"], &paths[..], &["c"]].concat()).success();
    assert!(image.join("core-1.img").exists(), "no image of init in {}", image.display());
    containerd.wait_for_status("c", "STOPPED");
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that the error of a failed checkpoint names CRIU's log, and that the container continues.
fn a_failed_checkpoint_is_reported_and_the_container_continues(version: Version) {
    let containerd = Containerd::start(version);
    // A criu that always fails is found before the real one.
    containerd.script("bin/criu", "echo 'no checkpoints today' >&2; exit 1");
    containerd.detached("c", &[], &["sh", "-c", COUNTER]);
    let before = count(&containerd, "c");
    let failed = containerd.ctr(&["container", "checkpoint", "--task", "c", "kept/c"]).exit_code(1);
    assert!(failed.stderr_text().contains("criu-dump.log"), "{}", failed.stderr_text());
    deadline::until("the counter to go on", || count(&containerd, "c") > before);
    assert_eq!(containerd.status("c").as_deref(), Some("RUNNING"));
    containerd.remove("c");
    containerd.assert_nothing_left();
}
