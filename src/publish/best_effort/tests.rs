use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use containerd_shim_protos::{
    api::Empty,
    shim::events::ForwardRequest,
    shim_async::{Events, create_events},
    ttrpc::{
        self,
        r#async::{Server, TtrpcContext, transport::Listener},
    },
};
use tokio::sync::mpsc;

use super::*;
use crate::publish::{Publisher, TaskEvent};

fn offer(queue: &BestEffort, bytes: usize) -> bool {
    queue.offer("ns", "/lookout/gap", "a/Spec", vec![b' '; bytes])
}

/// Check that the queue accepts a number of events and of bytes, and refuses events beyond it.
#[test]
fn events_are_refused_when_the_queue_is_full() {
    let by_number = BestEffort::default();
    assert!((0..WAITING_MAX).all(|_| offer(&by_number, 1)));
    assert!(!offer(&by_number, 1));
    let by_bytes = BestEffort::default();
    assert!(offer(&by_bytes, BYTES_MAX));
    assert!(!offer(&by_bytes, 1));
    let taken = by_bytes.take().expect("one event is queued");
    assert_eq!((taken.topic.as_str(), taken.event.type_url.as_str()), ("/lookout/gap", "a/Spec"));
    assert!(offer(&by_bytes, BYTES_MAX), "its space is free again");
}

/// Check that without containerd best-effort events are tried, dropped and counted, and that task
/// events are kept.
#[tokio::test]
async fn without_containerd_only_best_effort_events_are_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing.sock");
    let (publisher, sender) =
        Publisher::new("ns", &missing.display().to_string(), &folder.path().join("events.journal"));
    publisher.publish(TaskEvent::start("web", 1));
    let waiting = publisher.unpublished();
    let oldest =
        SystemTime::UNIX_EPOCH + Duration::from_nanos(waiting.oldest_ns.expect("there is one"));
    assert!(
        waiting.events == 1 && oldest.elapsed().is_ok_and(|age| age < Duration::from_secs(10)),
        "{waiting:?}"
    );
    for _ in 0..3 {
        assert!(publisher.send_best_effort("/lookout/gap", "a/Spec", b"{}".to_vec()));
    }
    let dropped = async {
        let mut dropped = 0;
        while dropped < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            dropped += publisher.take_dropped_count();
        }
        dropped
    };
    tokio::select! {
        dropped = tokio::time::timeout(Duration::from_secs(20), dropped) => {
            assert_eq!(dropped, Ok(3));
        }
        () = sender.run() => panic!("a sender never ends"),
    }
    assert_eq!(publisher.unpublished(), waiting);
}

/// A containerd that passes each event to the test and acknowledges only task events.
struct Stubborn(mpsc::Sender<Envelope>);

#[async_trait]
impl Events for Stubborn {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let envelope = request.envelope.into_option().expect("1.6 crashes without one");
        let is_task = envelope.topic.starts_with("/tasks/");
        self.0.send(envelope).await.expect("the test receives");
        if is_task { Ok(Empty::new()) } else { std::future::pending().await }
    }
}

/// Check that a task event overtakes a best-effort event that containerd never acknowledges.
#[tokio::test]
async fn a_task_event_does_not_wait_for_a_best_effort_event() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = format!("unix://{}", folder.path().join("events.sock").display());
    // The test sends two events. A further event would block its sender, which the test would not
    // notice.
    let (sender, mut received) = mpsc::channel(2);
    let listener = Listener::bind(&socket).expect("a socket");
    let mut server = Server::new()
        .add_listener(listener)
        .register_service(create_events(Arc::new(Stubborn(sender))));
    server.start().await.expect("the server starts");
    let (publisher, sender) = Publisher::new("ns", &socket, &folder.path().join("events.journal"));
    let test = async {
        assert!(publisher.send_best_effort("/lookout/gap", "a/Spec", b"{}".to_vec()));
        let ours = received.recv().await.expect("an event");
        assert_eq!((ours.namespace.as_str(), ours.topic.as_str()), ("ns", "/lookout/gap"));
        assert_eq!((ours.event.type_url.as_str(), &ours.event.value[..]), ("a/Spec", &b"{}"[..]));
        assert!(ours.timestamp.seconds > 0);
        publisher.publish(TaskEvent::start("web", 1));
        assert_eq!(received.recv().await.expect("an event").topic, "/tasks/start");
        // Acknowledged while the other event is not. Without a queue of its own it would block for
        // five seconds (`ACKNOWLEDGE`).
        publisher.drain(Duration::from_secs(4)).await.expect("acknowledged");
        assert_eq!(publisher.take_dropped_count(), 0);
    };
    tokio::select! {
        in_time = tokio::time::timeout(Duration::from_secs(20), test) => assert!(in_time.is_ok()),
        () = sender.run() => panic!("a sender never ends"),
    }
}
