//! Ports of containers as the shim reports them, read with `lookout` as a user would.

mod attribution;
mod bus;
mod fallback;
mod idle;
mod kinds;
mod many;
mod namespaces;
mod quiet;
mod short;
mod udp;
mod waiting;

use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    containerd::{Containerd, ObservedEvent, Subscriber},
    tools::tool,
};

/// The longest time until an event is delivered on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// The `--mount` argument that gives a container the program of `tests/storm/ports.c` as `/ports`.
pub(super) fn mount() -> String {
    format!("type=bind,src={},dst=/ports,options=rbind:ro", tool("storm/bin/ports").display())
}

/// Starts a container that runs `/ports ARGUMENTS`.
fn listener(containerd: &Containerd, id: &str, flags: &[&str], arguments: &[&str]) {
    let mount = mount();
    containerd.detached(
        id,
        &[&["--mount", &mount], flags].concat(),
        &[&["/ports"], arguments].concat(),
    );
}

/// Kills and removes a container.
fn remove(containerd: &Containerd, id: &str) {
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", id]);
    containerd.remove(id);
}

/// All events of one type for a container, such as its openings or closings, oldest first.
fn of<'a>(events: &'a [ObservedEvent], kind: &str, id: &str) -> Vec<&'a ObservedEvent> {
    events.iter().filter(|event| event.kind() == kind && event.container() == id).collect()
}

fn address(event: &ObservedEvent) -> &str {
    event.text("/network/local/address")
}

fn number(event: &ObservedEvent) -> u64 {
    event.number("/network/local/port").expect("a port has a number")
}

/// Waits for a port of a container to open or to close.
#[track_caller]
fn wait(subscriber: &Subscriber, kind: &str, id: &str, port: u64) -> ObservedEvent {
    let wanted = |event: &ObservedEvent| {
        event.kind() == kind && event.container() == id && number(event) == port
    };
    subscriber.wait(SOON, &format!("{kind} of {port} in {id}"), wanted)
}

/// The output of `lookout ports` for a container.
fn listed(containerd: &Containerd, id: &str) -> Vec<ObservedEvent> {
    let answer = containerd
        .lookout(&["ports", "-o", "json", "--container", id])
        .run()
        .success()
        .stdout_text();
    let ports: Vec<Value> = serde_json::from_str(&answer).expect("an array");
    ports.into_iter().map(ObservedEvent).collect()
}

/// The host pids of a port's owners.
fn owners(event: &ObservedEvent) -> Vec<u64> {
    event
        .at("/owners")
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|owner| owner["pid"].as_u64())
        .collect()
}
