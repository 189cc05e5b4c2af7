//! The containers of a pod, which have one ring.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::super::stage::{Cgroup, Node, Received, spawn};
use crate::observe::{record::Record, source::Source as _};

/// Check that a container with records that take long to process loses only its own, that those of
/// another container are delivered soon, and that both accounts balance.
#[test]
fn a_container_with_slow_records_loses_only_its_own() {
    let (node, slow, other) = (Node::new(), Cgroup::new(), Cgroup::new());
    let mut source = node.source(64 * 1024);
    for cgroup in [&slow, &other] {
        source.watch(cgroup.id(), &cgroup.target()).unwrap();
    }
    let forks =
        |count: u32| format!("i=0; while [ $i -lt {count} ]; do /bin/true; i=$((i+1)); done");
    let mut storm = spawn(&mut slow.shell(&forks(3000), &[]));
    let mut quiet =
        spawn(&mut other.shell("for i in 1 2 3 4 5 6 7 8; do /bin/sleep 0.2; done", &[]));
    let (mut of_slow, mut of_other) = (Received::default(), Received::default());
    let mut latest = Duration::ZERO;
    let begun = Instant::now();
    let mut ended = false;
    while !ended {
        assert!(begun.elapsed() < Duration::from_secs(120), "it ends");
        ended = storm.try_wait().unwrap().is_some() & quiet.try_wait().unwrap().is_some();
        let mut records = Vec::new();
        source.read(8, &mut |record| records.push(record)).unwrap();
        for record in records {
            if let Record::Process { target, at_ns, .. } = &record {
                match *target == slow.id() {
                    true => thread::sleep(Duration::from_millis(2)),
                    false => {
                        let late = crate::clock::monotonic_ns().saturating_sub(*at_ns);
                        latest = latest.max(Duration::from_nanos(late));
                    }
                }
            }
            of_slow.take(record.clone(), slow.id());
            of_other.take(record, other.id());
        }
    }
    storm.wait().unwrap();
    quiet.wait().unwrap();
    for (cgroup, received) in [(&slow, &mut of_slow), (&other, &mut of_other)] {
        received.drain(&mut source, cgroup.id());
    }
    let counts = [&slow, &other].map(|cgroup| source.counts(cgroup.id()).unwrap());
    assert_eq!((counts[1].lost, of_other.lost), (0, 0));
    assert_eq!(counts[1].seen, of_other.whats.len() as u64);
    assert!(counts[0].lost > 0, "the test is not hard enough: {counts:?}");
    assert_eq!(counts[0].lost, of_slow.lost);
    assert_eq!(counts[0].seen, of_slow.whats.len() as u64 + of_slow.lost);
    assert!(latest < Duration::from_millis(500), "{latest:?}");
}
