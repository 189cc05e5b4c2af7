//! Processes of containers as the shim reports them, read with `lookout` as a user would.

mod arguments;
mod attribution;
mod bus;
mod crash;
mod cursor;
mod done;
mod first;
mod flood;
mod isolation;
mod loss;
mod memory;
mod names;
mod off;
mod rolled;
pub(super) mod sources;
mod storm;

use std::time::Duration;

use crate::harness::{
    containerd::{Containerd, ObservedEvent, Subscriber},
    tools::tool,
};

/// The longest time for a storm and the delivery of its events on a busy machine.
const STORM: Duration = Duration::from_secs(120);

/// The `--mount` arguments that give a container the storm as `/storm` and `/leaf`.
fn storm_mounts() -> Vec<String> {
    let mount = |name: &str| {
        let path = tool(&format!("storm/bin/{name}"));
        [
            "--mount".to_owned(),
            format!("type=bind,src={},dst=/{name},options=rbind:ro", path.display()),
        ]
    };
    ["storm", "leaf"].into_iter().flat_map(mount).collect()
}

/// Runs a storm as an exec of a new container, waits until all its events are received, and removes
/// the container. Returns its `container.close`. Panics unless every leaf ended with the expected
/// status.
fn storm(
    containerd: &Containerd,
    subscriber: &Subscriber,
    id: &str,
    count: u32,
    first: u32,
) -> ObservedEvent {
    storm_and(containerd, subscriber, id, (count, first), || {})
}

/// As [`storm`], but calls `and` before the container is removed.
fn storm_and(
    containerd: &Containerd,
    subscriber: &Subscriber,
    id: &str,
    (count, first): (u32, u32),
    and: impl FnOnce(),
) -> ObservedEvent {
    let mounts = storm_mounts();
    let flags: Vec<&str> = mounts.iter().map(String::as_str).collect();
    let (count, first) = (count.to_string(), first.to_string());
    containerd.detached(id, &flags, &["sleep", "1000"]);
    let exec_id = format!("storm-of-{id}");
    let arguments = ["task", "exec", "--exec-id", &exec_id, id, "/storm", &count, "1", &first];
    let run = containerd.program(&arguments).within(STORM).run().success();
    assert!(run.stdout_text().starts_with(&format!("{count} ")), "{}", run.stdout_text());
    // The shim's reaper reports this exit even if the source has lost it, and after all earlier
    // events.
    subscriber.wait(STORM, "the end of the storm", |event| {
        let is_exec =
            event.text("/containerd/exec_id") == exec_id && event.text("/origin") == "exec";
        event.kind() == "process.exit" && is_exec
    });
    and();
    kill_and_remove(containerd, subscriber, id)
}

/// Kills a container, removes it, and returns its `container.close`.
fn kill_and_remove(containerd: &Containerd, subscriber: &Subscriber, id: &str) -> ObservedEvent {
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", id]).success();
    containerd.remove(id);
    subscriber.wait_close(id)
}

/// The account in a `container.close`: seen, delivered, lost.
fn account(close: &ObservedEvent) -> (Option<u64>, u64, Option<u64>) {
    (
        close.number("/seen"),
        close.number("/delivered").expect("always known"),
        close.number("/lost"),
    )
}
