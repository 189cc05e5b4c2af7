use std::sync::Arc;

use containerd_shim_protos::protobuf::Message as _;
use proptest::prelude::*;

use super::*;
use crate::{
    api,
    model::{
        Args, Body, Container, Description, Image, Kubernetes, Process, ProcessKey, RecordCounts,
    },
    observe::stream::tests::{CLOCK, event, identity, process, throttle},
};

/// A `process.start` event with this number of bytes of arguments.
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

/// Check that an emptied journal counts no bytes, and keeps the memory of one segment and a spare.
#[test]
fn evicted_events_are_not_charged() {
    let mut journal = Journal::new(usize::MAX);
    (1..=2000).for_each(|at_ns| append(&mut journal, &start(at_ns, 100)));
    assert!(journal.bytes() > 2000 * 100);
    assert!(journal.segments.len() > 4);
    (0..2000).for_each(|_| journal.evict());
    assert_eq!((journal.bytes(), journal.first_seq(), journal.newest_seq()), (0, 2001, 2000));
    assert_eq!(journal.segments.len(), 1);
    assert!(journal.spare.capacity() <= 2 * SEGMENT_BYTES);
}

/// Check that the memory of an event that is far larger than a segment is freed with it.
#[test]
fn the_memory_of_a_large_event_is_freed() {
    let mut journal = Journal::new(usize::MAX);
    for event in [throttle(1), start(2, 10 * SEGMENT_BYTES), throttle(3), throttle(4)] {
        append(&mut journal, &event);
    }
    assert!(journal.bytes() > 10 * SEGMENT_BYTES);
    (0..3).for_each(|_| journal.evict());
    assert_eq!(journal.oldest_event().map(|event| event.seq), Some(4));
    assert!(
        journal.segments.iter().map(Vec::capacity).sum::<usize>() + journal.spare.capacity()
            <= 4 * SEGMENT_BYTES
    );
}

/// Check that an event that is larger than the journal is kept as the only event.
#[test]
fn the_newest_event_always_stays() {
    let mut journal = Journal::new(1);
    append(&mut journal, &throttle(1));
    assert!(!journal.is_over_limit());
    append(&mut journal, &throttle(2));
    assert!(journal.is_over_limit());
    journal.evict();
    assert_eq!(journal.oldest_event().map(|event| event.seq), Some(2));
    assert!(!journal.is_over_limit());
}

proptest! {
    /// Check that the sequence numbers are consecutive and the bytes within the limit, and that
    /// reading from any number returns the event with that number and all later ones, unchanged.
    #[test]
    fn sequence_numbers_are_consecutive(
        sizes in proptest::collection::vec(0..30_000_usize, 1..80),
        from in 0..100_u64,
    ) {
        let mut journal = Journal::new(100_000);
        for (size, at_ns) in sizes.iter().zip(1..) {
            append(&mut journal, &start(at_ns, *size));
            while journal.is_over_limit() {
                journal.evict();
            }
            prop_assert!(journal.bytes() <= 100_000);
            let capacity = journal.segments.iter().map(Vec::capacity).sum::<usize>();
            prop_assert!(capacity <= 100_000 + 5 * SEGMENT_BYTES, "capacity of {} bytes", capacity);
            prop_assert_eq!(journal.newest_seq(), at_ns);
            let seqs = journal.from(0).map(|event| event.seq);
            prop_assert!(seqs.eq(journal.first_seq()..=journal.newest_seq()));
        }
        let begin = from.max(journal.first_seq());
        prop_assert!(journal.from(from).map(|event| event.seq).eq(begin..=journal.newest_seq()));
        let skip = usize::try_from(begin - 1).unwrap_or(0).min(sizes.len());
        for (event, size) in journal.from(from).zip(&sizes[skip..]) {
            let (seq, monotonic_ns) = (event.seq, event.monotonic_ns);
            let api = decoded(event);
            prop_assert_eq!((api.seq, api.monotonic_ns), (seq, monotonic_ns));
            let Some(api::event::Body::Process(process)) = api.body else { panic!("no process") };
            prop_assert_eq!(process.args.first().map_or(0, Vec::len), *size);
        }
    }
}

/// A container with names of this length in Kubernetes.
fn named(id: &str, length: usize) -> Arc<Container> {
    let name = || "n".repeat(length);
    let kubernetes =
        Kubernetes { namespace: name(), pod_name: name(), pod_uid: name(), container_name: name() };
    let description = Description { kubernetes: Some(kubernetes), ..Description::default() };
    Arc::new(Container { id: id.to_owned(), description, ..Container::default() })
}

fn of(container: &Arc<Container>, event: Event) -> Event {
    Event { container: Some(container.clone()), ..event }
}

/// The bytes that the journal counts for the life of a container with 1000 processes.
fn life(container: &Arc<Container>) -> usize {
    let mut journal = Journal::new(usize::MAX);
    append(
        &mut journal,
        &of(container, event(0, Body::ContainerStart { init: ProcessKey::new(1, 1) })),
    );
    (1..=1000).for_each(|at_ns| append(&mut journal, &of(container, start(at_ns, 10))));
    journal.bytes()
}

/// Check that the names of a container are in its first event, and not in the others.
#[test]
fn an_event_does_not_repeat_the_names_of_its_container() {
    let [without, with] = [0, 1024].map(|length| life(&named("web", length)));
    println!("bytes an event: {} without names, {} with 4 KiB", without / 1000, with / 1000);
    // In the record of the container and in its start.
    assert!((2 * 4096..2 * 4096 + 100).contains(&(with - without)), "{without} {with}");
}

/// Check that the journal keeps a container until its last event is evicted, and counts its bytes.
#[test]
fn a_container_is_kept_as_long_as_its_events() {
    let [one, other] = ["one", "other"].map(|id| named(id, 10));
    let mut journal = Journal::new(usize::MAX);
    for container in [&one, &other] {
        let init = ProcessKey::new(1, 1);
        append(&mut journal, &of(container, event(1, Body::ContainerStart { init })));
    }
    append(&mut journal, &of(&one, event(2, Body::ContainerClose(RecordCounts::default()))));
    let ids = |journal: &Journal, seq| -> Vec<String> {
        journal.containers().after(0, seq).map(|container| container.id.clone()).collect()
    };
    assert_eq!(
        (ids(&journal, 3), ids(&journal, 4)),
        (vec!["one".into(), "other".into()], vec!["other".to_owned()])
    );
    append(&mut journal, &of(&other, throttle(3)));
    journal.evict();
    journal.evict();
    let before = journal.bytes();
    let close = journal.oldest_event().map_or(0, |event| event.bytes.len());
    assert_eq!(ids(&journal, 0), ["one", "other"]);
    journal.evict();
    assert_eq!(ids(&journal, 0), ["other"]);
    assert!(before - journal.bytes() > close + 40, "{before} {}", journal.bytes());
    // It has not ended, and so stays without an event of its own.
    journal.evict();
    assert_eq!(ids(&journal, 0), ["other"]);
}
