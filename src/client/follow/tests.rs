use containerd_shim_protos::protobuf::Message as _;

use super::*;
use crate::api::{self, EventBatch};

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

/// Check that each event gets the names of its container, from the hello or from a batch, until the
/// container has ended.
#[test]
fn events_get_the_names_of_their_containers() {
    let container = |id: &str, has_names: bool| {
        let names = api::Kubernetes { pod_name: format!("{id}-0"), ..Default::default() };
        let k8s = has_names.then_some(names).into();
        Container { id: id.into(), k8s, ..Default::default() }
    };
    let event = |seq, id: &str, body| Event {
        seq,
        epoch: "a".into(),
        container: Some(container(id, false)).into(),
        body,
        ..Event::default()
    };
    let hello = api::Hello { containers: vec![container("one", true)], ..Default::default() };
    let hello = Event {
        epoch: "a".into(),
        type_: "hello".into(),
        body: Some(Body::Hello(hello)),
        ..Default::default()
    };
    let mut follow = follow();
    let mut pods = |events, containers| -> Vec<String> {
        let batch = EventBatch { events, containers, ..EventBatch::default() };
        let batch = Batch::new(batch.write_to_bytes().expect("bytes")).expect("a batch");
        let accepted = follow.without_delivered(batch).expect("a stream with follow has no end");
        let events = follow.decode(&accepted).expect("events");
        let pod = |event: &Event| event.container.k8s.pod_name.clone();
        events.iter().filter(|event| event.seq > 0).map(pod).collect()
    };
    let close = || Some(Body::ContainerClose(api::ContainerClose::default()));
    assert_eq!(pods(vec![hello], vec![]), [""; 0]);
    assert_eq!(pods(vec![event(1, "one", None), event(2, "two", None)], vec![]), ["one-0", ""]);
    assert_eq!(pods(vec![event(3, "two", None)], vec![container("two", true)]), ["two-0"]);
    assert_eq!(
        pods(vec![event(4, "one", close()), event(5, "two", None)], vec![]),
        ["one-0", "two-0"]
    );
    assert_eq!(pods(vec![event(6, "one", None)], vec![]), [""]);
}
