//! What the shim tells of its containers' ports, asked by `lookout` as a user would.

mod bus;
mod fallback;
mod idle;
mod kinds;
mod quiet;
mod short;
mod udp;
mod whose;

use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    containerd::{Containerd, Told, Watching},
    tools::tool,
};

/// How long something may take to be told beside a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// What `--mount` needs to give a container the listeners of `tests/storm/ports.c` as `/ports`.
pub(super) fn mount() -> String {
    format!("type=bind,src={},dst=/ports,options=rbind:ro", tool("storm/bin/ports").display())
}

/// A container that runs `/ports ARGUMENTS`.
fn listener(containerd: &Containerd, id: &str, flags: &[&str], arguments: &[&str]) {
    let mount = mount();
    containerd.detached(
        id,
        &[&["--mount", &mount], flags].concat(),
        &[&["/ports"], arguments].concat(),
    );
}

/// Kills a container and removes it.
fn remove(containerd: &Containerd, id: &str) {
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", id]);
    containerd.remove(id);
}

/// The openings or closings of a container, oldest first.
fn of<'a>(told: &'a [Told], kind: &str, id: &str) -> Vec<&'a Told> {
    told.iter().filter(|told| told.kind() == kind && told.container() == id).collect()
}

fn address(told: &Told) -> &str {
    told.text("/network/local/address")
}

fn number(told: &Told) -> u64 {
    told.number("/network/local/port").expect("a port has a number")
}

/// Waits for a port of a container to open or to close.
#[track_caller]
fn wait(watching: &Watching, kind: &str, id: &str, port: u64) -> Told {
    let wanted =
        |told: &Told| told.kind() == kind && told.container() == id && number(told) == port;
    watching.wait(SOON, &format!("{kind} of {port} in {id}"), wanted)
}

/// What `lookout ports` answers of a container.
fn listed(containerd: &Containerd, id: &str) -> Vec<Told> {
    let answer = containerd
        .lookout(&["ports", "-o", "json", "--container", id])
        .run()
        .success()
        .stdout_text();
    let ports: Vec<Value> = serde_json::from_str(&answer).expect("an array");
    ports.into_iter().map(Told).collect()
}

/// The host pids of a port's owners.
fn owners(told: &Told) -> Vec<u64> {
    told.at("/owners")
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|owner| owner["pid"].as_u64())
        .collect()
}
