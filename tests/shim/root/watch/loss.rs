//! Losses are counted where they happen, and reported.

use super::{account, storm_and};
use crate::harness::containerd::{Containerd, Version};

/// Check that with a ring of 4 KiB, which a storm may overrun and in which an exec with as many
/// bytes of arguments never fits, seen = delivered + lost with lost > 0, and that each loss is
/// reported as a gap of stage `kernel`.
#[test]
fn seen_is_delivered_and_lost_where_a_ring_is_too_small() {
    let settings = "ring_size = \"4KiB\"\njournal_max = \"64MiB\"\n";
    let containerd = Containerd::start_configured(Version::V1_7, settings);
    let subscriber = containerd.subscribe();
    let close = storm_and(&containerd, &subscriber, "c", (5000, 0), || {
        let long = "x".repeat(5000);
        containerd.ctr(&["task", "exec", "--exec-id", "long", "c", "/bin/true", &long]).success();
    });
    let (seen, delivered, lost) = account(&close);
    let (seen, lost) = (seen.expect("the program counts"), lost.expect("the program counts"));
    assert!(lost > 0, "{close:?}");
    assert_eq!(seen, delivered + lost, "{close:?}");
    let gaps = subscriber
        .all()
        .into_iter()
        .filter(|event| event.kind() == "observer.gap" && event.text("/stage") == "kernel");
    let reported: u64 = gaps.filter_map(|gap| gap.number("/lost")).sum();
    assert_eq!(reported, lost, "the sum of the gaps");
    drop(subscriber);
    containerd.assert_nothing_left();
}
