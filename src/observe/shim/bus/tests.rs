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
        encode::{Clock, Encoder, Head, Identity},
        stream::{EventLog, Limits, Since},
    },
};

fn process() -> Arc<Process> {
    Arc::new(Process {
        key: ProcessKey { pid: 1, start_ticks: 1 },
        vpid: None,
        parent_pid: 0,
        parent: None,
        image: Arc::new(Image::default()),
        origin: Origin::Init,
        exec_id: None,
        cgroup: None,
    })
}

fn exit() -> Body {
    Body::Exit { process: process(), ended: Some(Ended::Code(0)), oom_killed: false }
}

fn event(body: Body) -> api::Event {
    let identity = Identity { shim_id: "s".into(), epoch: "e".into(), boot: 0 };
    let mut batch = Batch::default();
    Encoder::new(&identity, CLOCK).event(
        1,
        &of_the_shim(body, 1),
        &mut Head::default(),
        &mut batch.events,
    );
    batch.decoded().expect("an event").remove(0)
}

const CLOCK: Clock = Clock { boot_realtime_ns: 0 };

fn gap() -> Body {
    Body::Gap(Gap { lost: Some(1), stage: Stage::Kernel, from_ns: 0, to_ns: 0 })
}

/// Check which events each setting lets through, and under which topics.
#[test]
fn the_bus_carries_what_it_was_told_to() {
    let bodies =
        || [Body::Fork(process()), Body::Start(process()), Body::Exec(process()), exit(), gap()];
    let topics = |carries| {
        let mut bus = Bus::new(carries, Rate::default());
        bodies().map(|body| bus.take(&event(body), 0).map_or("", |event| event.topic))
    };
    assert_eq!(topics(Carries::None), [""; 5]);
    assert_eq!(topics(Carries::Ports), ["", "", "", "", GAP]);
    assert_eq!(topics(Carries::Processes), ["", PROCESS_START, PROCESS_START, PROCESS_EXIT, GAP]);
}

/// Check that a burst passes, that the rest is withheld, and that this is told at once and then
/// once a second at most, with all that was withheld in between.
#[test]
fn what_is_withheld_is_told_once_a_second() {
    let mut bus = Bus::new(Carries::Processes, Rate { per_second: 1, burst: 2 });
    let at = |bus: &mut Bus, now_ns| bus.take(&event(exit()), now_ns).is_some();
    assert!(at(&mut bus, 0) && at(&mut bus, 0));
    assert_eq!(bus.due_ns(), None);
    assert!(!at(&mut bus, 5));
    assert_eq!(bus.due_ns(), Some(5));
    assert_eq!(bus.throttled(7), Some(Body::Throttle { withheld: 1, over_ns: 2 }));
    assert_eq!((bus.due_ns(), bus.throttled(8)), (None, None));
    assert!(!at(&mut bus, 9) && !at(&mut bus, 10));
    assert_eq!(bus.due_ns(), Some(7 + TELL_NS));
    assert_eq!(bus.throttled(6 + TELL_NS), None);
    assert!(at(&mut bus, TELL_NS), "a token a second");
    assert_eq!(
        bus.throttled(7 + TELL_NS),
        Some(Body::Throttle { withheld: 2, over_ns: TELL_NS - 2 })
    );
}

/// Check that the news of a throttle passes an empty bucket and takes nothing from it.
#[test]
fn a_throttle_passes_an_empty_bucket() {
    let mut bus = Bus::new(Carries::Ports, Rate { per_second: 0, burst: 0 });
    let throttle = event(Body::Throttle { withheld: 1, over_ns: 0 });
    assert!((0..5).all(|_| bus.take(&throttle, 0).is_some_and(|event| event.topic == GAP)));
    assert_eq!(bus.due_ns(), None);
}

proptest! {
    /// Check that in any stretch of time no more pass than the burst and the rate allow, and that
    /// passed and withheld are all.
    #[test]
    fn no_more_pass_than_the_rate_allows(
        steps in proptest::collection::vec(0..50_000_000_u64, 1..400),
        per_second in 0..200_u32,
        burst in 0..20_u32,
    ) {
        let mut bus = Bus::new(Carries::Processes, Rate { per_second, burst });
        let (mut now_ns, mut passed, mut told) = (0, Vec::new(), 0);
        for step in &steps {
            now_ns += step;
            if bus.take(&event(exit()), now_ns).is_some() {
                passed.push(now_ns);
            }
            if let Some(Body::Throttle { withheld, .. }) = bus.throttled(now_ns) {
                told += withheld;
            }
        }
        if let Some(Body::Throttle { withheld, .. }) = bus.throttled(now_ns + TELL_NS) {
            told += withheld;
        }
        prop_assert_eq!(passed.len() as u64 + told, steps.len() as u64);
        for (index, begin) in passed.iter().enumerate() {
            for (count, end) in (1..).zip(&passed[index..]) {
                let allowed = u64::from(burst) * 1_000_000_000 + (end - begin) * u64::from(per_second);
                prop_assert!(count * 1_000_000_000 <= allowed + 1_000_000_000);
            }
        }
    }
}

/// Check that what containerd never got is told in the stream, that the teller ends with the event_log,
/// and that the journal of task events has none of it.
#[tokio::test]
async fn what_was_not_sent_is_told_in_the_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    let nobody = folder.path().join("nobody.sock").display().to_string();
    let (publisher, sender) = Publisher::new("ns", &nobody, &folder.path().join("events.journal"));
    let identity = Identity { shim_id: "s".into(), epoch: "e".into(), boot: 0 };
    let event_log = Arc::new(EventLog::new(Limits { journal_bytes: 1 << 20 }, identity, CLOCK));
    let clock = AtomicU64::new(1);
    let bus = Bus::new(Carries::Processes, Rate { per_second: 0, burst: 3 });
    let filters = vec![Wanted { types: vec!["observer.throttle".into()], ..Wanted::default() }];
    let mut throttles = event_log
        .subscribe(Request { filters, since: Since::Oldest, ..Request::default() })
        .expect("a place");
    let test = async {
        while event_log.subscribers() < 2 {
            tokio::task::yield_now().await;
        }
        event_log.publish(&mut (0..10).map(|_| of_the_shim(exit(), 1)).collect());
        let (mut withheld, mut told) = (0, 0);
        // Seven found no token; three, and then perhaps the news of that, found no containerd.
        while withheld < 10 {
            let batch = throttles.next(READ).await.expect("an open event_log");
            for event in batch.decoded().expect("events") {
                let Some(Message::Throttle(throttle)) = event.body else {
                    panic!("{}", event.type_)
                };
                withheld += throttle.withheld;
                told += 1;
                clock.fetch_add(TELL_NS, Ordering::Relaxed);
                event_log.publish(&mut vec![of_the_shim(gap(), 1)]);
            }
        }
        assert!(told >= 2);
        event_log.close();
    };
    let told = async {
        tokio::join!(test, run(&event_log, &publisher, bus, || clock.load(Ordering::Relaxed)))
    };
    tokio::select! {
        told = tokio::time::timeout(Duration::from_secs(20), told) => assert!(told.is_ok(), "in time"),
        () = sender.run() => panic!("a sender never ends"),
    }
    assert_eq!(publisher.unpublished().bytes, 0);
}
