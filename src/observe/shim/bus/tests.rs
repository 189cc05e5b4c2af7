use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use proptest::prelude::*;

use super::*;
use crate::{
    api::event::Body as Message,
    model::{Ended, Gap, Image, Origin, Process, ProcessKey, Stage},
    observe::{
        encode::{Clock, ContainerFields, Encoder, Identity},
        stream::{EventLog, Limits, Since},
    },
};

fn process() -> Arc<Process> {
    Arc::new(Process {
        key: ProcessKey::new(1, 1),
        vpid: None,
        parent_pid: None,
        parent: None,
        image: Arc::new(Image::default()),
        origin: Origin::Init,
        exec_id: None,
        cgroup: None,
    })
}

fn exit() -> Body {
    Body::Exit {
        process: process(),
        ended: Some(Ended::Code(0)),
        oom_killed: false,
        run_time_ns: None,
    }
}

fn event(body: Body) -> api::Event {
    let identity = Identity { shim_id: "s".into(), epoch: "e".into(), boot: 0 };
    let mut batch = Batch::default();
    Encoder::new(&identity, CLOCK).event(
        1,
        &shim_event(body, 1),
        &mut ContainerFields::default(),
        &mut batch.events,
    );
    batch.decoded().expect("an event").remove(0)
}

const CLOCK: Clock = Clock { boot_realtime_ns: 0 };

fn gap() -> Body {
    Body::Gap(Gap { lost: Some(1), stage: Stage::Kernel, from_ns: 0, to_ns: 0 })
}

/// Check which events each setting selects, and under which topics.
#[test]
fn each_setting_selects_its_events() {
    let bodies =
        || [Body::Fork(process()), Body::Start(process()), Body::Exec(process()), exit(), gap()];
    let topics = |selection| {
        let mut bus = Bus::new(selection, RateLimit::default());
        bodies().map(|body| bus.admit(&event(body), 0).map_or("", |event| event.topic))
    };
    assert_eq!(topics(BusEvents::None), [""; 5]);
    assert_eq!(topics(BusEvents::Ports), ["", "", "", "", GAP_TOPIC]);
    assert_eq!(
        topics(BusEvents::Processes),
        ["", PROCESS_START_TOPIC, PROCESS_START_TOPIC, PROCESS_EXIT_TOPIC, GAP_TOPIC]
    );
}

/// Check that a burst passes, that further events are withheld, and that this is reported at once
/// and then once a second at most, with all events that were withheld in between.
#[test]
fn withheld_events_are_reported_once_a_second() {
    let mut bus = Bus::new(BusEvents::Processes, RateLimit { per_second: 1, burst: 2 });
    let at = |bus: &mut Bus, now_ns| bus.admit(&event(exit()), now_ns).is_some();
    assert!(at(&mut bus, 0) && at(&mut bus, 0));
    assert_eq!(bus.due_ns(), None);
    assert!(!at(&mut bus, 5));
    assert_eq!(bus.due_ns(), Some(5));
    assert_eq!(bus.take_report(7), Some(Body::Throttle { withheld: 1, over_ns: 2 }));
    assert_eq!((bus.due_ns(), bus.take_report(8)), (None, None));
    assert!(!at(&mut bus, 9) && !at(&mut bus, 10));
    assert_eq!(bus.due_ns(), Some(7 + THROTTLE_INTERVAL_NS));
    assert_eq!(bus.take_report(6 + THROTTLE_INTERVAL_NS), None);
    assert!(at(&mut bus, THROTTLE_INTERVAL_NS), "a token a second");
    assert_eq!(
        bus.take_report(7 + THROTTLE_INTERVAL_NS),
        Some(Body::Throttle { withheld: 2, over_ns: THROTTLE_INTERVAL_NS - 2 })
    );
}

/// Check that a throttle passes an empty bucket and takes no token from it.
#[test]
fn a_throttle_passes_an_empty_bucket() {
    let mut bus = Bus::new(BusEvents::Ports, RateLimit { per_second: 0, burst: 0 });
    let throttle = event(Body::Throttle { withheld: 1, over_ns: 0 });
    assert!((0..5).all(|_| bus.admit(&throttle, 0).is_some_and(|event| event.topic == GAP_TOPIC)));
    assert_eq!(bus.due_ns(), None);
}

proptest! {
    /// Check that in any interval no more events pass than the burst and the rate allow, and that
    /// each event is either passed or withheld.
    #[test]
    fn no_more_pass_than_the_rate_allows(
        steps in proptest::collection::vec(0..50_000_000_u64, 1..400),
        per_second in 0..200_u32,
        burst in 0..20_u32,
    ) {
        let mut bus = Bus::new(BusEvents::Processes, RateLimit { per_second, burst });
        let (mut now_ns, mut passed, mut reported) = (0, Vec::new(), 0);
        for step in &steps {
            now_ns += step;
            if bus.admit(&event(exit()), now_ns).is_some() {
                passed.push(now_ns);
            }
            if let Some(Body::Throttle { withheld, .. }) = bus.take_report(now_ns) {
                reported += withheld;
            }
        }
        let last = bus.take_report(now_ns + THROTTLE_INTERVAL_NS);
        if let Some(Body::Throttle { withheld, .. }) = last {
            reported += withheld;
        }
        prop_assert_eq!(passed.len() as u64 + reported, steps.len() as u64);
        for (index, begin) in passed.iter().enumerate() {
            for (count, end) in (1..).zip(&passed[index..]) {
                let refilled = (end - begin) * u64::from(per_second);
                let allowed = u64::from(burst) * 1_000_000_000 + refilled;
                prop_assert!(count * 1_000_000_000 <= allowed + 1_000_000_000);
            }
        }
    }
}

/// Check that events which containerd never received are reported in the stream, that `run` ends
/// with the event log, and that the outbox has none of them.
#[tokio::test]
async fn unsent_events_are_reported_in_the_stream() {
    let directory = tempfile::tempdir().expect("a directory");
    let absent = directory.path().join("absent.sock").display().to_string();
    let (publisher, sender) =
        Publisher::new("ns", &absent, &directory.path().join("events.journal"));
    let identity = Identity { shim_id: "s".into(), epoch: "e".into(), boot: 0 };
    let event_log = Arc::new(EventLog::new(Limits { journal_bytes: 1 << 20 }, identity, CLOCK));
    let clock = AtomicU64::new(1);
    let bus = Bus::new(BusEvents::Processes, RateLimit { per_second: 0, burst: 3 });
    let filters =
        vec![FilterSpec { types: vec!["observer.throttle".into()], ..FilterSpec::default() }];
    let mut throttles = event_log
        .subscribe(SubscriptionRequest {
            filters,
            since: Since::Oldest,
            ..SubscriptionRequest::default()
        })
        .expect("a subscription");
    let test = async {
        while event_log.subscribers() < 2 {
            tokio::task::yield_now().await;
        }
        event_log.append(&mut (0..10).map(|_| shim_event(exit(), 1)).collect());
        let (mut withheld, mut throttles_seen) = (0, 0);
        // Seven events found no token. Three events found no containerd, and perhaps the throttle
        // too.
        while withheld < 10 {
            let batch = throttles.next(READ_BOUNDS).await.expect("an open event_log");
            for event in batch.decoded().expect("events") {
                let Some(Message::Throttle(throttle)) = event.body else {
                    panic!("{}", event.type_)
                };
                withheld += throttle.withheld;
                throttles_seen += 1;
                clock.fetch_add(THROTTLE_INTERVAL_NS, Ordering::Relaxed);
                event_log.append(&mut vec![shim_event(gap(), 1)]);
            }
        }
        assert!(throttles_seen >= 2);
        event_log.close();
    };
    let both = async {
        tokio::join!(test, run(&event_log, &publisher, bus, || clock.load(Ordering::Relaxed)))
    };
    let both = tokio::time::timeout(Duration::from_secs(20), both);
    tokio::select! {
        ended = both => assert!(ended.is_ok(), "in time"),
        () = sender.run() => panic!("a sender never ends"),
    }
    assert_eq!(publisher.unpublished().bytes, 0);
}
