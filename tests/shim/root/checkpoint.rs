//! Checkpoint and restore with CRIU, and new limits: what `ctr` can and cannot ask for.

use std::{fs, path::Path};

use crate::harness::{
    containerd::{Containerd, Runtime, Version},
    deadline,
};

/// Counts in memory, and tells in a file how far it is.
const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo $i >/count; usleep 10000; done";

fn count(containerd: &Containerd, id: &str) -> u64 {
    let path = format!("/proc/{}/root/count", containerd.pid(id));
    deadline::find("the counter to count", || fs::read_to_string(&path).ok()?.trim().parse().ok())
}

/// A daemon whose runtime works with CRIU 4.
fn with_criu(version: Version) -> Containerd {
    Containerd::start_with(version, Runtime::Runc1_3)
}

/// Checkpoints a running counter into an image, removes it, and restores it under another name:
/// it must go on where it was.
fn a_checkpoint_goes_on_where_it_was(version: Version) {
    let containerd = with_criu(version);
    let events = containerd.events();
    containerd.detached("c", &[], &["sh", "-c", COUNTER]);
    deadline::until("the counter to get somewhere", || count(&containerd, "c") >= 40);
    containerd.ctr(&["container", "checkpoint", "--task", "--rw", "--image", "c", "kept/c"]).success();
    let kept = count(&containerd, "c");
    assert_eq!(containerd.status("c").as_deref(), Some("RUNNING"), "a checkpoint leaves it running");
    containerd.remove("c");
    containerd.assert_nothing_left_but_clients();
    containerd.ctr(&["container", "restore", "--live", "--rw", "d", "kept/c"]).success();
    let begun = count(&containerd, "d");
    assert!(begun >= 40, "the counter begins at {begun}, where it was past 40");
    deadline::until("the restored counter to go on", || count(&containerd, "d") > kept + 20);
    containerd.exec("d", &[], &["sh", "-c", "exit 3"]).run().exit_code(3);
    assert!(containerd.ctr(&["task", "ps", "d"]).success().stdout_text().contains(&containerd.pid("d").to_string()));
    containerd.remove("d");
    events.wait_topic("/tasks/delete", "d");
    let told = events.of("d").into_iter().filter(|event| !event.contains("exec-") && !event.starts_with("delete exec"));
    let told = told.filter(|event| !event.starts_with("exit exec")).collect::<Vec<_>>();
    assert_eq!(told, ["create", "start", "exit", "delete"]);
    drop(events);
    containerd.assert_nothing_left();
}

/// Check that a checkpoint with `--exit` writes the image where it is told to and ends the
/// container.
fn a_checkpoint_may_end_the_container(version: Version) {
    let containerd = with_criu(version);
    let (image, work) = (containerd.path("image"), containerd.path("work"));
    let flags = ["--exit", "--image-path", &image.to_string_lossy(), "--work-path", &work.to_string_lossy()];
    // ctr passes these on to runtimes of this name alone.
    let runtime = "io.containerd.runc.lookout.v2";
    let run = ["run", "--detach", "--runtime", runtime, super::IMAGE, "c", "sh", "-c", COUNTER];
    containerd.ctr(&run).success();
    count(&containerd, "c");
    containerd.ctr(&[&["task", "checkpoint"], &flags[..], &["c"]].concat()).success();
    assert!(image.join("core-1.img").exists(), "no image of init in {}", image.display());
    containerd.wait_for_status("c", "STOPPED");
    containerd.remove("c");
    containerd.assert_nothing_left();
}
