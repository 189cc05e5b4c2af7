//! A loss is counted where it happened, and told.

use super::{account, storm_and};
use crate::harness::containerd::{Containerd, Version};

/// Check that with a ring of 4 KiB, which a storm may overrun and which an exec of as many bytes of
/// arguments never fits in, seen = delivered + lost with lost > 0, and that each loss is told as a
/// gap that names the kernel.
#[test]
fn seen_is_delivered_and_lost_where_a_ring_is_too_small() {
    let settings = "ring_size = \"4KiB\"\njournal_max = \"64MiB\"\n";
    let containerd = Containerd::start_configured(Version::V1_7, settings);
    let watching = containerd.watching();
    let close = storm_and(&containerd, &watching, "c", (5000, 0), || {
        let long = "x".repeat(5000);
        containerd.ctr(&["task", "exec", "--exec-id", "long", "c", "/bin/true", &long]).success();
    });
    let (seen, delivered, lost) = account(&close);
    let (seen, lost) = (seen.expect("the program counts"), lost.expect("the program counts"));
    assert!(lost > 0, "{close:?}");
    assert_eq!(seen, delivered + lost, "{close:?}");
    let gaps = watching
        .all()
        .into_iter()
        .filter(|told| told.kind() == "observer.gap" && told.text("/stage") == "kernel");
    let told: u64 = gaps.filter_map(|gap| gap.number("/lost")).sum();
    assert_eq!(told, lost, "what the gaps tell");
    drop(watching);
    containerd.assert_nothing_left();
}
