//! Every process, however short, with its own arguments and its own exit.

use std::collections::BTreeMap;

use super::{account, storm};
use crate::harness::containerd::{Containerd, Told, Version};

/// How many processes a storm makes.
const COUNT: u32 = 20_000;

/// Check that 20 000 processes, made as fast as the machine goes while another container does the
/// same, are each told as started with its own argument and as ended with its own code; that seq
/// has no hole, nothing is lost and nothing of the neighbour appears.
#[test]
fn twenty_thousand_processes_are_told_whole_beside_a_neighbours() {
    // A test build takes ten times as long for an event as a release: it gets the room. What a
    // release does with the defaults is in `hack/bench --only watch`.
    let room = "journal_max = \"64MiB\"\nring_size = \"4MiB\"\n";
    let containerd = Containerd::start_configured(Version::V1_7, room);
    let watching = containerd.watching();
    let first = |id: &str| if id == "a" { 0 } else { 1_000_000 };
    let (containerd, watching) = (&containerd, &watching);
    let closes = std::thread::scope(|scope| {
        let storms = ["a", "b"]
            .map(|id| scope.spawn(move || storm(containerd, watching, id, COUNT, first(id))));
        storms.map(|storm| storm.join().expect("a storm that is told"))
    });
    for (id, close) in ["a", "b"].into_iter().zip(closes) {
        let (seen, delivered, lost) = account(&close);
        assert_eq!(lost, Some(0), "{close:?}");
        assert_eq!(seen, Some(delivered), "{close:?}");
        let told = watching.all();
        let ours: Vec<&Told> = told.iter().filter(|told| told.container() == id).collect();
        assert!(ours.iter().all(|told| told.kind() != "observer.gap"), "a gap in {id}");
        whole(&ours, first(id));
        // Each container has a shim of its own, which counts its own records.
        let seqs: Vec<u64> = ours.iter().filter_map(|told| told.number("/seq")).collect();
        let hole = seqs.windows(2).find(|pair| pair[1] != pair[0] + 1);
        assert_eq!(hole, None, "a hole in the seq of {id}");
    }
    containerd.assert_nothing_left();
}

/// Panics unless each leaf was started and ended once, and nothing else is told of any leaf.
fn whole(told: &[&Told], first: u32) {
    let mut starts = BTreeMap::new();
    for start in told
        .iter()
        .filter(|told| told.kind() == "process.start" && told.args().first() == Some(&"leaf"))
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
    for exit in told.iter().filter(|told| told.kind() == "process.exit") {
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
