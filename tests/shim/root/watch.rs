//! What the shim tells of its containers' processes, asked by `lookout` as a user would.

mod arguments;
mod bus;
mod crash;
mod cursor;
mod done;
mod first;
mod flood;
mod loss;
mod off;
pub(super) mod sources;
mod storm;

use std::time::Duration;

use crate::harness::{
    containerd::{Containerd, Told, Watching},
    tools::tool,
};

/// How long a storm and the telling of it may take beside a busy machine.
const STORM: Duration = Duration::from_secs(120);

/// What `--mount` needs to give a container the storm as `/storm` and `/leaf`.
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

/// Runs a storm as an exec of a container of its own, waits until all that is told of it has been,
/// and removes the container. Panics unless every leaf ended as it should.
fn storm(containerd: &Containerd, watching: &Watching, id: &str, count: u32, first: u32) -> Told {
    storm_and(containerd, watching, id, (count, first), || {})
}

/// The same, and something else before the container is removed.
fn storm_and(
    containerd: &Containerd,
    watching: &Watching,
    id: &str,
    (count, first): (u32, u32),
    and: impl FnOnce(),
) -> Told {
    let mounts = storm_mounts();
    let flags: Vec<&str> = mounts.iter().map(String::as_str).collect();
    let (count, first) = (count.to_string(), first.to_string());
    containerd.detached(id, &flags, &["sleep", "1000"]);
    let exec_id = format!("storm-of-{id}");
    let arguments = ["task", "exec", "--exec-id", &exec_id, id, "/storm", &count, "1", &first];
    let run = containerd.program(&arguments).within(STORM).run().success();
    assert!(run.stdout_text().starts_with(&format!("{count} ")), "{}", run.stdout_text());
    // Told by the shim's reaper where the source has lost it, and after everything of before.
    watching.wait(STORM, "the end of the storm", |told| {
        let is_exec = told.text("/containerd/exec_id") == exec_id && told.text("/origin") == "exec";
        told.kind() == "process.exit" && is_exec
    });
    and();
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", id]).success();
    containerd.remove(id);
    watching.wait_close(id)
}

/// What a container's closing record says: seen, delivered, lost.
fn account(close: &Told) -> (Option<u64>, u64, Option<u64>) {
    (
        close.number("/seen"),
        close.number("/delivered").expect("always known"),
        close.number("/lost"),
    )
}
