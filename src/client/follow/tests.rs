use containerd_shim_protos::protobuf::Message as _;

use super::*;
use crate::api::EventBatch;

fn follow() -> EventFollower {
    let registration = serde_json::from_str(r#"{"pid":1,"start":0,"address":"unix:///nowhere"}"#);
    let wanted = FollowOptions { follow: true, ..FollowOptions::default() };
    EventFollower::new(registration.expect("a registration"), wanted)
}

/// The sequence numbers of the events that `follow` delivers of a batch with the events `seqs`; 0
/// is a hello.
fn delivered(follow: &mut EventFollower, epoch: &str, seqs: &[u64]) -> Vec<u64> {
    let event = |seq: &u64| {
        let type_ = if *seq == 0 { "hello" } else { "process.exit" };
        Event {
            seq: *seq,
            epoch: epoch.into(),
            type_: type_.into(),
            time_ns: 1,
            ..Event::default()
        }
    };
    let batch = EventBatch { events: seqs.iter().map(event).collect(), ..EventBatch::default() };
    let batch = Batch::new(batch.write_to_bytes().expect("bytes")).expect("a batch");
    let accepted = follow.without_delivered(batch).expect("a stream with follow has no end");
    accepted.iter().map(|event| event.seq).collect()
}

/// Check that each event is delivered once, however the batches of two connections overlap, and
/// that the hello of each epoch is delivered once.
#[test]
fn each_event_is_delivered_once() {
    let mut follow = follow();
    assert_eq!(delivered(&mut follow, "a", &[0]), [0]);
    assert_eq!(delivered(&mut follow, "a", &[1, 2, 3]), [1, 2, 3]);
    assert_eq!(delivered(&mut follow, "a", &[4, 7]), [4, 7]);
    assert_eq!(delivered(&mut follow, "a", &[0, 6, 7, 8]), [8]);
    assert_eq!(delivered(&mut follow, "a", &[7, 8, 9]), [9]);
    assert_eq!(delivered(&mut follow, "a", &[]), [0; 0]);
    assert_eq!(delivered(&mut follow, "a", &[10]), [10]);
    assert_eq!(delivered(&mut follow, "b", &[0, 1, 2]), [0, 1, 2]);
    assert_eq!(delivered(&mut follow, "b", &[2, 3]), [3]);
}
