use proptest::prelude::*;

use super::*;
use crate::api::{Container, EventBatch, event::Body};

fn event(seq: u64, epoch: String, type_: String, time_ns: u64) -> Event {
    let process = crate::api::Process { pid: 7, args: vec![vec![0xff; 200]], ..Default::default() };
    let container = Container { id: "web".into(), ..Default::default() };
    Event {
        seq,
        epoch,
        type_,
        time_ns,
        container: Some(container).into(),
        body: Some(Body::Process(process)),
        ..Default::default()
    }
}

proptest! {
    /// Check that the first fields, and the decoded events, equal those of the encoded message, for
    /// any content.
    #[test]
    fn heads_equal_those_of_the_events(
        heads in proptest::collection::vec(
            (any::<u64>(), ".{0,9}", ".{0,9}", any::<u64>()),
            0..9,
        ),
    ) {
        let events: Vec<_> = heads
            .into_iter()
            .map(|(seq, epoch, type_, time)| event(seq, epoch, type_, time))
            .collect();
        let batch = EventBatch { events: events.clone(), sent_ns: 9, ..Default::default() };
        let read = Batch::new(batch.write_to_bytes().expect("bytes")).expect("a batch");
        prop_assert_eq!(read.is_empty(), events.is_empty());
        prop_assert_eq!(read.iter().count(), events.len());
        for (read, event) in read.iter().zip(&events) {
            prop_assert_eq!((read.seq, read.time_ns), (event.seq, event.time_ns));
            let expected = (event.epoch.as_bytes(), event.type_.as_bytes());
            prop_assert_eq!((read.epoch, read.type_), expected);
            prop_assert_eq!(&read.decode().expect("an event"), event);
        }
    }

    /// Check that arbitrary bytes give an error or a batch, and never a panic.
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(batch) = Batch::new(bytes) {
            batch.iter().for_each(|event| drop(event.decode()));
        }
    }
}

/// Check that `retain` removes exactly the events that the predicate rejects.
#[test]
fn retain_removes_only_rejected_events() {
    let events = (1..=4).map(|seq| event(seq, "e".into(), "t".into(), seq)).collect();
    let bytes = EventBatch { events, ..Default::default() }.write_to_bytes().expect("bytes");
    let mut batch = Batch::new(bytes).expect("a batch");
    batch.retain(|event| event.seq % 2 == 0);
    assert_eq!(batch.iter().map(|event| event.seq).collect::<Vec<_>>(), [2, 4]);
}
