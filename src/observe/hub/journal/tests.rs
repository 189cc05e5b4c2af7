use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    model::{Args, ProcessKey},
    observe::hub::tests::{process, throttle, unnumbered},
};

fn image(bytes: usize) -> Arc<Image> {
    Arc::new(Image { args: Some(Args::from_nul_separated(&vec![b'a'; bytes])), ..Image::default() })
}

/// Check that a journal that was emptied has nothing charged, whatever its events shared.
#[test]
fn what_is_evicted_is_no_longer_charged() {
    let mut journal = Journal::new(usize::MAX);
    let shared = process(1, "/bin/sh");
    let child = Arc::new(Process { key: ProcessKey { pid: 2, start_ticks: 9 }, ..(*shared).clone() });
    let bodies = [Body::Start(shared.clone()), Body::Fork(child.clone()), Body::OomKill(shared), Body::Fork(child)];
    bodies.into_iter().for_each(|body| journal.append(unnumbered(1, body)));
    while journal.evict().is_some() {}
    assert_eq!(journal.bytes(), 0);
}

/// Check that what a process runs is charged to its start and to its exit, and to nothing in between.
#[test]
fn an_image_is_charged_to_its_start_and_its_exit() {
    let mut journal = Journal::new(usize::MAX);
    let big = Arc::new(Process { image: image(100_000), ..(*process(1, "/bin/sh")).clone() });
    journal.append(unnumbered(1, Body::Start(big.clone())));
    let once = journal.bytes();
    assert!(once > 100_000);
    journal.append(unnumbered(2, Body::OomKill(big.clone())));
    assert!(journal.bytes() < once + 1000);
    journal.append(unnumbered(3, Body::Exit { process: big, ended: None, oom_killed: true }));
    assert!(journal.bytes() > 200_000);
    journal.evict();
    assert!(journal.bytes() > 100_000, "the exit keeps it");
    while journal.evict().is_some() {}
    assert_eq!(journal.bytes(), 0);
}

/// Check that one event that is larger than the journal is kept, alone.
#[test]
fn the_newest_event_always_stays() {
    let mut journal = Journal::new(1);
    journal.append(throttle(1));
    assert!(!journal.is_over());
    journal.append(throttle(2));
    assert!(journal.is_over());
    assert_eq!(journal.evict().map(|event| event.seq), Some(1));
    assert!(!journal.is_over());
}

proptest! {
    /// Check that the seqs that are here are consecutive, the bytes within the bound, and that reading from
    /// any seq gives those that are not before it.
    #[test]
    fn seqs_have_no_holes(sizes in proptest::collection::vec(0..3000_usize, 1..80), from in 0..100_u64) {
        let mut journal = Journal::new(10_000);
        for (size, at_ns) in sizes.iter().zip(1..) {
            let of_size = Process { image: image(*size), ..(*process(1, "/bin/sh")).clone() };
            journal.append(unnumbered(at_ns, Body::Start(Arc::new(of_size))));
            while journal.is_over() {
                journal.evict();
            }
            prop_assert!(journal.bytes() <= 10_000);
            prop_assert_eq!(journal.newest(), at_ns);
            prop_assert!(journal.events.iter().map(|kept| kept.event.seq).eq(journal.first()..=journal.newest()));
        }
        let begin = from.max(journal.first());
        prop_assert!(journal.from(from).map(|event| event.seq).eq(begin..=journal.newest()));
    }
}
