//! Every process is reported, however short, with its own arguments and its own exit.

use std::collections::BTreeMap;

use super::{account, storm};
use crate::harness::containerd::{Containerd, ObservedEvent, Version};

/// How many processes a storm starts.
const COUNT: u32 = 20_000;

/// Check that 20 000 processes, started as fast as the machine can while another container does the
/// same, are each reported as started with their own argument and as ended with their own code;
/// that seq has no hole, that nothing is lost, and that no event of the other container appears.
#[test]
fn twenty_thousand_processes_are_reported_completely_beside_another_storm() {
    // A test build needs ten times as long for an event as a release, so it gets larger buffers.
    // `hack/bench --only watch` measures a release with the defaults.
    let room = "journal_max = \"64MiB\"\nring_size = \"4MiB\"\n";
    let containerd = Containerd::start_configured(Version::V1_7, room);
    let subscriber = containerd.subscribe();
    let first = |id: &str| if id == "a" { 0 } else { 1_000_000 };
    let (containerd, subscriber) = (&containerd, &subscriber);
    let closes = std::thread::scope(|scope| {
        let storms = ["a", "b"]
            .map(|id| scope.spawn(move || storm(containerd, subscriber, id, COUNT, first(id))));
        storms.map(|storm| storm.join().expect("a storm that is reported"))
    });
    for (id, close) in ["a", "b"].into_iter().zip(closes) {
        let (seen, delivered, lost) = account(&close);
        assert_eq!(lost, Some(0), "{close:?}");
        assert_eq!(seen, Some(delivered), "{close:?}");
        let all = subscriber.all();
        let ours: Vec<&ObservedEvent> =
            all.iter().filter(|event| event.container() == id).collect();
        assert!(ours.iter().all(|event| event.kind() != "observer.gap"), "a gap in {id}");
        assert_complete(&ours, first(id));
        // Each container has its own shim, which numbers its own events.
        let seqs: Vec<u64> = ours.iter().filter_map(|event| event.number("/seq")).collect();
        let hole = seqs.windows(2).find(|pair| pair[1] != pair[0] + 1);
        assert_eq!(hole, None, "a hole in the seq of {id}");
    }
    containerd.assert_nothing_left();
}

/// Asserts that each leaf was started and ended once, and that no other event names a leaf.
fn assert_complete(events: &[&ObservedEvent], first: u32) {
    let mut starts = BTreeMap::new();
    for start in events
        .iter()
        .filter(|event| event.kind() == "process.start" && event.args().first() == Some(&"leaf"))
    {
        let number: u32 = start.args()[1].parse().expect("a leaf's number");
        assert_eq!(start.text("/grade"), "exact", "{start:?}");
        assert_eq!(start.text("/process/executable/path"), "/leaf", "{start:?}");
        let twice = starts.insert(number, start.text("/process/entity_id"));
        assert_eq!(twice, None, "leaf {number} started twice");
    }
    let expected: Vec<u32> = (first..first + COUNT).collect();
    assert!(
        starts.keys().copied().eq(expected),
        "{} of {COUNT} starts, or a stranger's",
        starts.len()
    );
    let mut exits = BTreeMap::new();
    for exit in events.iter().filter(|event| event.kind() == "process.exit") {
        *exits.entry(exit.text("/process/entity_id")).or_insert(0) += 1;
        let args = exit.args();
        if args.first() == Some(&"leaf") {
            let number: u32 = args[1].parse().expect("a leaf's number");
            assert_eq!(exit.number("/status"), Some(u64::from(number % 256)), "{exit:?}");
        }
    }
    for (number, entity) in &starts {
        assert_eq!(exits.get(entity), Some(&1), "exits of leaf {number}");
    }
}
