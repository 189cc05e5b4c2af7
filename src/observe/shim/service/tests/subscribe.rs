//! The stream of Subscribe.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::Notify,
};

use super::*;
use crate::{
    api::{Filter, SlowPolicy},
    model::{Annotation, Description, Kubernetes},
    observe::stream::SUBSCRIBERS_MAX,
};

/// Check that the first record names the shim, its capabilities and the position of the stream.
#[tokio::test]
async fn the_first_record_is_a_hello() {
    let served = serve(1 << 20).await;
    served.event_log.append(&mut vec![start(1), start(2)]);
    let mut followed = served.subscribe(SubscribeRequest::default()).await;
    let hello = followed.hello().await;
    assert_eq!((hello.schema_version, hello.seq, hello.shim_id.as_str()), (2, 2, "pod"));
    assert_eq!(hello.version, env!("CARGO_PKG_VERSION"));
    let categories: Vec<_> =
        hello.capabilities.iter().map(|capability| capability.category.as_str()).collect();
    assert_eq!(categories, ["lifecycle", "file", "network", "process"]);
    served.event_log.append(&mut vec![start(3)]);
    assert_eq!(followed.seqs(1).await, [3]);
}

/// Check that a stream gives the names of a container once: in the hello, or beside the first
/// events of a container that began later, also if a filter leaves out its start.
#[tokio::test]
async fn the_names_of_a_container_are_given_once() {
    let served = serve(1 << 20).await;
    let container = |id: &str| {
        let kubernetes = Kubernetes { pod_name: format!("{id}-0"), ..Kubernetes::default() };
        let annotation = Annotation { key: "app".into(), value: id.into() };
        let description = Description {
            kubernetes: Some(kubernetes),
            name: format!("{id}-name"),
            image: format!("{id}-image"),
            annotations: vec![annotation],
        };
        Arc::new(Container { id: id.to_owned(), description, ..Container::default() })
    };
    let of = |container: &Arc<Container>, body| Event {
        container: Some(container.clone()),
        ..event("", body)
    };
    let begin = || Body::ContainerStart { init: ProcessKey::new(1, 1) };
    let run = |pid| Body::Start(Arc::new(process(pid)));
    let pods = |containers: &[api::Container]| -> Vec<String> {
        containers.iter().map(|one| one.k8s.get_or_default().pod_name.clone()).collect()
    };
    let [one, two] = ["one", "two"].map(container);
    served.event_log.append(&mut vec![of(&one, begin()), of(&one, run(1))]);
    let filters = vec![Filter { types: vec!["process.*".into()], ..Default::default() }];
    let mut followed = served.subscribe(SubscribeRequest { filters, ..Default::default() }).await;
    assert_eq!(pods(&followed.hello().await.containers), ["one-0"]);
    served.event_log.append(&mut vec![of(&one, run(2)), of(&two, begin()), of(&two, run(3))]);
    let batch = followed.batch().await.expect("events");
    assert_eq!(batch.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [3, 5]);
    assert!(batch.events.iter().all(|event| event.container.k8s.is_none()), "{batch:?}");
    assert_eq!(pods(&batch.containers), ["two-0"]);
    served.event_log.append(&mut vec![of(&two, run(4))]);
    assert_eq!(followed.batch().await.expect("an event").containers, []);
    let mut all = served.subscribe(SubscribeRequest { backfill: true, ..Default::default() }).await;
    assert_eq!(pods(&all.hello().await.containers), ["one-0", "two-0"]);
    let begun = all.next().await.expect("the start").container.into_option();
    assert_eq!(pods(begun.as_slice()), ["one-0"]);
    let begun = begun.expect("a container");
    assert_eq!((begun.name.as_str(), begun.image.as_str()), ("one-name", "one-image"));
    let [annotation] = &begun.annotations[..] else { panic!("{begun:?}") };
    assert_eq!((annotation.key.as_str(), annotation.value.as_str()), ("app", "one"));
}

/// Check each field of a process that starts and exits, as a client sees them.
#[tokio::test]
async fn an_event_has_every_known_field() {
    let served = serve(1 << 20).await;
    served.event_log.append(&mut vec![start(0x1234), exit(0x1234, Some(Ended::Signal(9)))]);
    let mut followed =
        served.subscribe(SubscribeRequest { backfill: true, ..Default::default() }).await;
    assert_eq!(followed.hello().await.seq, 0);
    let event = followed.next().await.expect("the start");
    assert_eq!((event.seq, event.epoch.as_str(), event.type_.as_str()), (1, "e1", "process.start"));
    assert_eq!(
        (event.time_ns, event.monotonic_ns, event.grade.as_str(), event.source.as_str()),
        (6, 5, "exact", "bpf")
    );
    assert_eq!((event.container.namespace.as_str(), event.container.id.as_str()), ("ns", "web"));
    let Some(api::event::Body::Process(process)) = event.body else { panic!("no process") };
    assert_eq!(process.entity_id, "000000ab0000123410");
    assert_eq!(process.created_ns, 1_000 + 16 * 10_000_000);
    assert_eq!(process.args, [&b"echo"[..], b"", b"\xff\n"]);
    assert_eq!(
        (process.args_count, process.args_bytes, process.args_truncated),
        (Some(3), Some(9), false)
    );
    assert_eq!((process.vpid, process.uid, process.gid), (Some(2), Some(0), None));
    assert_eq!((process.origin.as_str(), process.exec_id.as_str()), ("exec", "probe"));
    assert_eq!(process.executable.as_deref(), Some(&b"/bin/echo"[..]));
    assert_eq!((process.parent.pid, process.parent.entity_id.as_str()), (1, "000000ab000000011"));
    assert!(process.ended.is_none());
    let event = followed.next().await.expect("the exit");
    let Some(api::event::Body::Process(process)) = event.body else { panic!("no process") };
    let ended = process.ended.into_option().expect("an end");
    assert_eq!((ended.code, ended.signal.as_str(), ended.status), (None, "SIGKILL", Some(137)));
}

/// Check that filters select events, and that each event carries the labels of its filters.
#[tokio::test]
async fn filters_select_and_label() {
    let served = serve(1 << 20).await;
    let filters = vec![
        Filter {
            types: vec!["process.exit".into()],
            failures: true,
            label: "failed".into(),
            ..Default::default()
        },
        Filter {
            types: vec!["process.exit".into()],
            limit: 1,
            label: "first".into(),
            ..Default::default()
        },
    ];
    let mut followed = served.subscribe(SubscribeRequest { filters, ..Default::default() }).await;
    followed.hello().await;
    let (good, bad) = (Some(Ended::Code(0)), Some(Ended::Code(3)));
    served.event_log.append(&mut vec![start(1), exit(1, good), exit(2, good), exit(3, bad)]);
    let first = followed.next().await.expect("an event");
    let second = followed.next().await.expect("an event");
    assert_eq!((first.seq, first.labels), (2, vec!["first".to_owned()]));
    assert_eq!((second.seq, second.labels), (4, vec!["failed".to_owned()]));
}

/// Check that an invalid request is refused with the code and the invalid word.
#[tokio::test]
async fn an_invalid_request_is_refused_by_name() {
    let served = serve(1 << 20).await;
    let filter = |filter| SubscribeRequest { filters: vec![filter], ..Default::default() };
    let bad_type = filter(Filter { types: vec!["process.exce".into()], ..Default::default() });
    let bad_origin = filter(Filter { origin: "unheard-of".into(), ..Default::default() });
    let cases = [
        (SubscribeRequest { since: "nonsense".into(), ..Default::default() }, "nonsense"),
        (SubscribeRequest { since: "e1:9".into(), ..Default::default() }, "e1:9"),
        (bad_type, "process.exce"),
        (bad_origin, "unheard-of"),
        (
            SubscribeRequest {
                when_slow: ::protobuf::EnumOrUnknown::from_i32(7),
                ..Default::default()
            },
            "7",
        ),
    ];
    for (request, named) in cases {
        let (code, message) = served.refusal(request).await;
        assert_eq!(code, Code::INVALID_ARGUMENT);
        assert!(message.contains(named), "{message:?} does not name {named:?}");
    }
    assert_eq!(served.event_log.subscribers(), 0);
}

/// Check that a subscriber beyond the limit is refused and the error names the limit.
#[tokio::test]
async fn a_subscriber_beyond_the_limit_is_refused() {
    let served = serve(1 << 20).await;
    let mut all = Vec::new();
    for _ in 0..SUBSCRIBERS_MAX {
        let mut followed = served.subscribe(SubscribeRequest::default()).await;
        followed.hello().await;
        all.push(followed);
    }
    let (code, message) = served.refusal(SubscribeRequest::default()).await;
    assert_eq!(code, Code::RESOURCE_EXHAUSTED);
    assert!(message.contains("64"), "{message}");
}

/// Check that heartbeats are empty batches, and that they free the subscription of a client that
/// has disconnected.
#[tokio::test]
async fn a_heartbeat_finds_a_disconnected_client() {
    let served = serve(1 << 20).await;
    let request = SubscribeRequest { heartbeat_ms: 100, ..Default::default() };
    let mut followed = served.subscribe(request).await;
    followed.hello().await;
    let beat = followed.batch().await.expect("a heartbeat");
    assert!(beat.events.is_empty() && beat.sent_ns > 0);
    drop(followed);
    within(async {
        while served.event_log.subscribers() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Check that the streams of a closed event log end after the last `container.close`, and that
/// `drained` waits for that.
#[tokio::test]
async fn a_stream_ends_after_the_last_close() {
    let served = serve(1 << 20).await;
    let mut followed = served.subscribe(SubscribeRequest::default()).await;
    followed.hello().await;
    let counts = RecordCounts { seen: Some(3), delivered: 2, lost: Some(1), runtime: 4 };
    served.event_log.append(&mut vec![start(1), event("web", Body::ContainerClose(counts))]);
    served.event_log.close();
    served.event_log.drained(Duration::from_secs(1)).await;
    assert_eq!(followed.seqs(1).await, [1]);
    let close = followed.next().await.expect("the close");
    let Some(api::event::Body::ContainerClose(close)) = close.body else {
        panic!("{} is no close", close.type_)
    };
    assert_eq!((close.seen, close.delivered, close.lost, close.runtime), (Some(3), 2, Some(1), 4));
    assert!(followed.next().await.is_none());
}

/// Check that a subscriber that is killed repeatedly and returns with its cursor receives each
/// event once, while events are written and the journal is large enough.
#[tokio::test]
async fn a_cursor_resumes_exactly_once() {
    const EVENTS: u64 = 20_000;
    let served = serve(64 << 20).await;
    let (event_log, stop) = (served.event_log.clone(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let writer = thread::spawn(move || {
        let mut published = 0;
        while published < EVENTS && !stopped.load(Ordering::Relaxed) {
            event_log.append(&mut (0..10).map(start).collect());
            published += 10;
            thread::yield_now();
        }
    });
    let (mut cursor, mut lives) = ("e1:0".to_owned(), 0);
    let mut expected = 1;
    while expected <= EVENTS {
        let mut followed = served
            .subscribe(SubscribeRequest { since: cursor.clone(), ..Default::default() })
            .await;
        assert_eq!(followed.hello().await.seq, expected - 1);
        // It is dropped with unread events. The cursor has only those that were read.
        for _ in 0..=(lives * 97 % 800) {
            if expected > EVENTS {
                break;
            }
            let event = followed.next().await.expect("more");
            assert_eq!(event.seq, expected, "{}", event.type_);
            cursor = format!("{}:{}", event.epoch, event.seq);
            expected += 1;
        }
        lives += 1;
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("the writer");
    assert!(lives > 10, "{lives} lives");
}

/// A connection to `address` that holds back the server's answers until `released`. A ttrpc client
/// always reads its socket, even if no event is requested, so a client alone is never slow.
fn relay(address: &str, released: Arc<Notify>) -> (String, impl Future<Output = ()>) {
    let server = address.trim_start_matches("unix://").to_owned();
    let path = format!("{server}.slow");
    let listener = UnixListener::bind(&path).expect("a socket");
    let relay = async move {
        let (client, _) = listener.accept().await.expect("the client");
        let server = UnixStream::connect(server).await.expect("the server");
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let back = async {
            released.notified().await;
            tokio::io::copy(&mut from_server, &mut to_client).await
        };
        let _ = tokio::join!(tokio::io::copy(&mut from_client, &mut to_server), back);
    };
    (format!("unix://{path}"), relay)
}

/// Check that a subscriber that does not read loses only its own events, and that each loss is
/// counted.
#[tokio::test]
async fn a_slow_subscriber_does_not_affect_another() {
    const EVENTS: u64 = 30_000;
    let served = serve(1 << 20).await;
    let released = Arc::new(Notify::new());
    let (address, relay) = relay(&served.address, released.clone());
    let test = async {
        let client = ObserverClient::new(Client::connect(&address).await.expect("a connection"));
        let stream =
            client.subscribe(context::Context::default(), &SubscribeRequest::default()).await;
        let mut slow = Followed { stream: stream.expect("a stream"), read: Vec::new().into_iter() };
        within(async {
            while served.event_log.subscribers() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let block = SubscribeRequest {
            when_slow: SlowPolicy::BLOCK.into(),
            block_ms: 1000,
            ..Default::default()
        };
        let mut quick = served.subscribe(block).await;
        quick.hello().await;
        let event_log = served.event_log.clone();
        let writer = thread::spawn(move || {
            for _ in 0..EVENTS / 100 {
                event_log.append(&mut (0..100).map(start).collect());
            }
        });
        for seq in 1..=EVENTS {
            assert_eq!(quick.next().await.expect("more").seq, seq);
        }
        writer.join().expect("the writer");
        released.notify_one();
        slow.hello().await;
        let (mut got, mut lost, mut last) = (0, 0, 0);
        while last < EVENTS {
            let event = slow.next().await.expect("more");
            if let Some(api::event::Body::Gap(gap)) = &event.body {
                assert_eq!(
                    (event.seq, gap.stage.as_str(), event.epoch.as_str()),
                    (0, "subscriber", "e1")
                );
                lost += gap.lost.expect("counted");
            } else {
                assert!(event.seq > last);
                last = event.seq;
                got += 1;
            }
        }
        assert_eq!(got + lost, EVENTS);
        assert!(lost > 0, "the socket was larger than the events");
    };
    tokio::select! {
        () = test => {}
        () = relay => panic!("the relay ended"),
    }
}
