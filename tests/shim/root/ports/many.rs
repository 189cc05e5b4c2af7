//! A container with thousands of ports.

use std::{collections::HashSet, time::Duration};

use super::{number, remove};
use crate::harness::{
    containerd::{Containerd, ObservedEvent, Version},
    deadline,
};

/// Check that `lookout ports` lists each of 3000 listeners once, from a list that comes in pages.
#[test]
fn thousands_of_ports_are_listed() {
    const COUNT: usize = 3000;
    let containerd = Containerd::start(Version::V1_7);
    let script = format!(
        "i=0; while [ $i -lt {COUNT} ]; do nc -l -p $((10000 + i)) & i=$((i+1)); done; wait"
    );
    containerd.detached("c", &[], &["sh", "-c", &script]);
    let listed = || -> Vec<ObservedEvent> {
        let list = containerd.lookout(&["ports", "-o", "jsonl", "--container", "c"]);
        let text = list.within(Duration::from_secs(60)).run().success().stdout_text();
        let row = |line| ObservedEvent(serde_json::from_str(line).expect("an object"));
        text.lines().map(row).collect()
    };
    deadline::within(Duration::from_secs(120), "all ports", || listed().len() >= COUNT);
    let ports = listed();
    let distinct: HashSet<u64> = ports.iter().map(number).collect();
    assert_eq!((ports.len(), distinct.len()), (COUNT, COUNT));
    assert!(ports.iter().all(|port| port.number("/owners_count") == Some(1)), "{:?}", ports[0]);
    remove(&containerd, "c");
    containerd.assert_nothing_left();
}
