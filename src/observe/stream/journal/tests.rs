use std::sync::Arc;

use containerd_shim_protos::protobuf::Message as _;
use proptest::prelude::*;

use super::*;
use crate::{
    api,
    model::{Args, Body, Image, Process},
    observe::stream::tests::{CLOCK, event, identity, process, throttle},
};

/// A start whose arguments have so many bytes.
fn start(at_ns: u64, bytes: usize) -> Event {
    let args = Some(Args::from_nul_separated(&vec![b'a'; bytes]));
    let image = Arc::new(Image { args, ..Image::default() });
    event(at_ns, Body::Start(Arc::new(Process { image, ..(*process(1, "/bin/sh")).clone() })))
}

fn append(journal: &mut Journal, event: &Event) {
    journal.append(event, Encoder::new(&identity(), CLOCK));
}

fn decoded(event: Encoded<'_>) -> api::Event {
    api::EventBatch::parse_from_bytes(event.bytes).expect("a batch").events.remove(0)
}

/// Check that a journal that was emptied has nothing charged, and keeps room for no more than one
/// segment.
#[test]
fn what_is_evicted_is_no_longer_charged() {
    let mut journal = Journal::new(usize::MAX);
    (1..=2000).for_each(|at_ns| append(&mut journal, &start(at_ns, 100)));
    assert!(journal.bytes() > 2000 * 100);
    assert!(journal.segments.len() > 4);
    (0..2000).for_each(|_| journal.evict());
    assert_eq!((journal.bytes(), journal.first(), journal.newest()), (0, 2001, 2000));
    assert_eq!(journal.segments.len(), 1);
    assert!(journal.spare.capacity() <= 2 * SEGMENT);
}

/// Check that the room of one event that is far larger than a segment goes with it.
#[test]
fn the_room_of_a_large_event_is_given_back() {
    let mut journal = Journal::new(usize::MAX);
    for event in [throttle(1), start(2, 10 * SEGMENT), throttle(3), throttle(4)] {
        append(&mut journal, &event);
    }
    assert!(journal.bytes() > 10 * SEGMENT);
    (0..3).for_each(|_| journal.evict());
    assert_eq!(journal.oldest().map(|event| event.seq), Some(4));
    assert!(
        journal.segments.iter().map(Vec::capacity).sum::<usize>() + journal.spare.capacity()
            <= 4 * SEGMENT
    );
}

/// Check that one event that is larger than the journal is kept, alone.
#[test]
fn the_newest_event_always_stays() {
    let mut journal = Journal::new(1);
    append(&mut journal, &throttle(1));
    assert!(!journal.is_over());
    append(&mut journal, &throttle(2));
    assert!(journal.is_over());
    journal.evict();
    assert_eq!(journal.oldest().map(|event| event.seq), Some(2));
    assert!(!journal.is_over());
}

proptest! {
    /// Check that the seqs that are here are consecutive, the bytes within the bound, and that
    /// reading from any seq gives those that are not before it, each as it was given.
    #[test]
    fn seqs_have_no_holes(sizes in proptest::collection::vec(0..30_000_usize, 1..80), from in 0..100_u64) {
        let mut journal = Journal::new(100_000);
        for (size, at_ns) in sizes.iter().zip(1..) {
            append(&mut journal, &start(at_ns, *size));
            while journal.is_over() {
                journal.evict();
            }
            prop_assert!(journal.bytes() <= 100_000);
            let room = journal.segments.iter().map(Vec::capacity).sum::<usize>();
            prop_assert!(room <= 100_000 + 5 * SEGMENT, "{} bytes of room", room);
            prop_assert_eq!(journal.newest(), at_ns);
            prop_assert!(journal.from(0).map(|event| event.seq).eq(journal.first()..=journal.newest()));
        }
        let begin = from.max(journal.first());
        prop_assert!(journal.from(from).map(|event| event.seq).eq(begin..=journal.newest()));
        for (event, size) in journal.from(from).zip(&sizes[usize::try_from(begin - 1).unwrap_or(0).min(sizes.len())..]) {
            let (seq, monotonic_ns) = (event.seq, event.monotonic_ns);
            let told = decoded(event);
            prop_assert_eq!((told.seq, told.monotonic_ns), (seq, monotonic_ns));
            let Some(api::event::Body::Process(process)) = told.body else { panic!("no process") };
            prop_assert_eq!(process.args.first().map_or(0, Vec::len), *size);
        }
    }
}
