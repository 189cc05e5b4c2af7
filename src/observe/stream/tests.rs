use std::{
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;
use crate::model::{
    Backend, Body, Ended, Event, Gap, Grade, Image, Origin, Process, ProcessKey, Stage,
};

pub(super) const ALL: ReadBounds = ReadBounds { events: usize::MAX, bytes: usize::MAX };

/// An event log with a journal that holds this number of [`throttle`] events, if their times are
/// below 128 ns: such a time is encoded in one byte.
pub(super) fn event_log(events: usize) -> Arc<EventLog> {
    let mut journal = Journal::new(usize::MAX);
    journal.append(&throttle(1), Encoder::new(&identity(), CLOCK));
    let journal_bytes = events * journal.bytes();
    Arc::new(EventLog::new(Limits { journal_bytes }, identity(), CLOCK))
}

pub(super) const CLOCK: Clock = Clock { boot_realtime_ns: 0 };

pub(super) fn identity() -> Identity {
    Identity { shim_id: "pod".into(), epoch: "e1".into(), boot: 7 }
}

/// The smallest event, at this time. It has no process.
pub(super) fn throttle(at_ns: u64) -> Event {
    event(at_ns, Body::Throttle { withheld: at_ns, over_ns: 0 })
}

pub(super) fn event(at_ns: u64, body: Body) -> Event {
    let (grade, source) = (Grade::Exact, Backend::Mock);
    Event { monotonic_ns: at_ns, realtime_ns: 0, grade, source, container: None, body }
}

pub(super) fn exit(pid: i32, code: u8) -> Body {
    Body::Exit {
        process: process(pid, "/bin/true"),
        ended: Some(Ended::Code(code)),
        oom_killed: false,
        run_time_ns: None,
    }
}

pub(super) fn process(pid: i32, executable: &str) -> Arc<Process> {
    let image = Image { executable: Some(executable.as_bytes().into()), ..Image::default() };
    Arc::new(Process {
        key: ProcessKey::new(pid, 5),
        vpid: None,
        parent_pid: Some(1),
        parent: None,
        image: Arc::new(image),
        origin: Origin::Descendant,
        exec_id: None,
        cgroup: None,
    })
}

fn append(event_log: &EventLog, seqs: std::ops::RangeInclusive<u64>) {
    event_log.append(&mut seqs.map(throttle).collect());
}

fn after(cursor: &str) -> SubscriptionRequest {
    SubscriptionRequest {
        since: Since::After(cursor.parse().expect("a cursor")),
        ..SubscriptionRequest::default()
    }
}

fn seqs(batch: &Batch) -> Vec<u64> {
    batch.decoded().expect("events").iter().map(|event| event.seq).collect()
}

/// Reads what the subscription can read now.
async fn read(subscription: &mut Subscription) -> Batch {
    let next = tokio::time::timeout(Duration::from_secs(10), subscription.next(ALL));
    next.await.expect("something to read").expect("an open event log")
}

/// Check that events are numbered from 1 and that a subscriber receives later events.
#[tokio::test]
async fn a_subscriber_receives_later_events() {
    let event_log = event_log(100);
    append(&event_log, 1..=3);
    let mut subscription = event_log.subscribe(SubscriptionRequest::default()).expect("accepted");
    assert_eq!(subscription.begins_after(), 3);
    append(&event_log, 4..=5);
    assert_eq!(seqs(&read(&mut subscription).await), [4, 5]);
    assert_eq!(event_log.seq(), 5);
}

/// Check that a subscription with a cursor of this epoch begins with the event after it, also at
/// the end of the journal.
#[tokio::test]
async fn a_cursor_continues_after_its_event() {
    let event_log = event_log(100);
    append(&event_log, 1..=4);
    let mut subscription = event_log.subscribe(after("e1:2")).expect("accepted");
    let batch = read(&mut subscription).await;
    assert_eq!((seqs(&batch), batch.gaps), (vec![3, 4], vec![]));
    let mut at_the_end = event_log.subscribe(after("e1:4")).expect("accepted");
    append(&event_log, 5..=5);
    assert_eq!(seqs(&read(&mut at_the_end).await), [5]);
}

/// Check that evicted events after a cursor become a gap that counts exactly them.
#[tokio::test]
async fn an_evicted_cursor_is_a_gap_of_the_missing_seqs() {
    let event_log = event_log(4);
    append(&event_log, 1..=10);
    let mut subscription = event_log.subscribe(after("e1:2")).expect("accepted");
    let batch = read(&mut subscription).await;
    assert_eq!(batch.gaps, [Gap { lost: Some(4), stage: Stage::Journal, from_ns: 0, to_ns: 7 }]);
    assert_eq!(seqs(&batch), [7, 8, 9, 10]);
    let mut whole = event_log.subscribe(after("e1:6")).expect("accepted");
    assert_eq!(read(&mut whole).await.gaps, []);
}

/// Check that a cursor of another epoch gives a gap of unknown size and then the whole journal.
#[tokio::test]
async fn a_cursor_of_another_epoch_is_a_gap_of_unknown_size() {
    let event_log = event_log(100);
    append(&event_log, 1..=2);
    let batch = read(&mut event_log.subscribe(after("e0:77")).expect("accepted")).await;
    assert_eq!(
        batch.gaps.iter().map(|gap| (gap.lost, gap.stage)).collect::<Vec<_>>(),
        [(None, Stage::Journal)]
    );
    assert_eq!(seqs(&batch), [1, 2]);
}

/// Check that a cursor ahead of the newest event is refused, and that the error names it.
#[test]
fn a_cursor_ahead_of_the_newest_event_is_refused() {
    let event_log = event_log(100);
    append(&event_log, 1..=2);
    let refused = event_log.subscribe(after("e1:3")).expect_err("no such event");
    assert_eq!(refused.to_string(), "cursor e1:3 is ahead of the newest event, 2");
    assert!(event_log.subscribe(after(&format!("e1:{}", u64::MAX))).is_err());
}

/// Check that texts that are not cursors are refused, and that the error names them.
#[test]
fn a_malformed_cursor_is_refused_by_name() {
    for text in
        ["e1", "e1:", ":5", "e1:x", "e1:-1", "e1:+1", "e1:1:1", "e1:18446744073709551616", ":"]
    {
        let refused = text.parse::<Cursor>().expect_err(text);
        assert_eq!(refused.to_string(), format!("cursor {text:?} is not EPOCH:SEQ"));
    }
    assert_eq!("e1:0".parse::<Cursor>().expect("a cursor").to_string(), "e1:0");
}

/// Check that a subscription since the oldest event begins with the whole journal, after a gap of
/// the events that the journal no longer has.
#[tokio::test]
async fn since_oldest_begins_with_the_whole_journal() {
    let (whole, event_log) = (event_log(16), event_log(4));
    append(&event_log, 1..=10);
    let mut subscription = event_log
        .subscribe(SubscriptionRequest { since: Since::Oldest, ..SubscriptionRequest::default() })
        .expect("accepted");
    assert_eq!(subscription.begins_after(), 6);
    let batch = read(&mut subscription).await;
    assert_eq!(batch.gaps, [Gap { lost: Some(6), stage: Stage::Journal, from_ns: 0, to_ns: 7 }]);
    assert_eq!(seqs(&batch), [7, 8, 9, 10]);
    append(&whole, 1..=4);
    let request = SubscriptionRequest { since: Since::Oldest, ..Default::default() };
    let batch = read(&mut whole.subscribe(request).expect("accepted")).await;
    assert_eq!((seqs(&batch), batch.gaps), (vec![1, 2, 3, 4], vec![]));
}

/// Check that only the slow subscriber receives the gap of its loss, before the remaining events.
#[tokio::test]
async fn only_the_slow_subscriber_receives_its_gap() {
    let event_log = event_log(4);
    let mut slow = event_log.subscribe(SubscriptionRequest::default()).expect("accepted");
    let mut quick = event_log.subscribe(SubscriptionRequest::default()).expect("accepted");
    for seq in 1..=10 {
        append(&event_log, seq..=seq);
        let batch = read(&mut quick).await;
        assert_eq!((seqs(&batch), batch.gaps), (vec![seq], vec![]));
    }
    let batch = read(&mut slow).await;
    assert_eq!(batch.gaps, [Gap { lost: Some(6), stage: Stage::Subscriber, from_ns: 1, to_ns: 6 }]);
    assert_eq!(seqs(&batch), [7, 8, 9, 10]);
    append(&event_log, 11..=11);
    assert_eq!(read(&mut slow).await.gaps, [], "the gap is delivered once");
}

/// Check that an evicted event is not lost for a subscriber with filters that do not match it.
#[tokio::test]
async fn an_evicted_event_that_no_filter_matches_is_not_lost() {
    let event_log = event_log(4);
    let filters = vec![FilterSpec { types: vec!["process.exit".into()], ..FilterSpec::default() }];
    let mut exits = event_log
        .subscribe(SubscriptionRequest { filters, ..SubscriptionRequest::default() })
        .expect("accepted");
    append(&event_log, 1..=100);
    event_log.append(&mut vec![event(101, exit(1, 0))]);
    let batch = read(&mut exits).await;
    assert_eq!((seqs(&batch), batch.gaps), (vec![101], vec![]));
}

/// Check that the 65th subscriber is refused with the limit, and accepted after another was
/// dropped.
#[test]
fn the_number_of_subscribers_is_limited() {
    let event_log = event_log(4);
    let _own = event_log
        .subscribe(SubscriptionRequest { internal: true, ..SubscriptionRequest::default() })
        .expect("not counted");
    let mut all: Vec<_> = (0..SUBSCRIBERS_MAX)
        .map(|_| event_log.subscribe(SubscriptionRequest::default()).expect("accepted"))
        .collect();
    let refused = event_log.subscribe(SubscriptionRequest::default()).expect_err("too many");
    assert_eq!(refused.to_string(), "the shim already serves 64 subscribers, which is the limit");
    all.pop();
    assert!(event_log.subscribe(SubscriptionRequest::default()).is_ok());
}

/// Check that a closed event log delivers everything and then ends, and that `drained` waits for
/// the read.
#[tokio::test]
async fn close_ends_a_stream_after_everything_was_read() {
    let event_log = event_log(100);
    let mut subscription = event_log.subscribe(SubscriptionRequest::default()).expect("accepted");
    append(&event_log, 1..=2);
    event_log.close();
    let begun = Instant::now();
    event_log.drained(Duration::from_millis(20)).await;
    assert!(begun.elapsed() >= Duration::from_millis(20), "it has not read yet");
    assert_eq!(seqs(&read(&mut subscription).await), [1, 2]);
    assert!(subscription.next(ALL).await.is_none());
    drop(subscription);
    event_log.drained(Duration::from_secs(3600)).await;
}

/// Check that a close wakes a waiting subscriber.
#[tokio::test]
async fn close_wakes_a_waiting_subscriber() {
    let event_log = event_log(100);
    let mut subscription = event_log.subscribe(SubscriptionRequest::default()).expect("accepted");
    let closer = event_log.clone();
    let (next, ()) = tokio::join!(subscription.next(ALL), async move { closer.close() });
    assert!(next.is_none());
}

/// Check that `drained` waits about a second at most for a subscriber that never reads, even if the
/// caller allows more.
#[tokio::test]
async fn drained_gives_up_on_a_subscriber_that_never_reads() {
    let event_log = event_log(100);
    let _stuck = event_log.subscribe(SubscriptionRequest::default()).expect("accepted");
    append(&event_log, 1..=1);
    let begun = Instant::now();
    event_log.drained(Duration::from_secs(3600)).await;
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// Check that only types that its filters match wake a subscriber, and only once until it reads.
#[tokio::test]
async fn a_subscriber_is_woken_once_and_only_for_its_types() {
    let event_log = event_log(100);
    let filters = vec![FilterSpec { types: vec!["process.*".into()], ..FilterSpec::default() }];
    let mut processes = event_log
        .subscribe(SubscriptionRequest { filters, ..SubscriptionRequest::default() })
        .expect("accepted");
    let waits = |event_log: &EventLog| {
        event_log.lock().subscribers.first().is_some_and(Subscriber::is_waiting)
    };
    assert!(futures::poll!(std::pin::pin!(processes.next(ALL))).is_pending());
    assert!(waits(&event_log));
    append(&event_log, 1..=1);
    assert!(waits(&event_log), "a throttle does not match process.*");
    event_log.append(&mut vec![event(2, exit(1, 0))]);
    assert!(!waits(&event_log), "it was woken, and is not woken again");
    assert_eq!(seqs(&read(&mut processes).await), [2]);
}

/// Check that the log works on after a thread that held the lock panicked.
#[tokio::test]
async fn a_poisoned_lock_stays_in_use() {
    let event_log = event_log(100);
    let mut subscription = event_log.subscribe(SubscriptionRequest::default()).expect("accepted");
    let poisoner = event_log.clone();
    let panicked = thread::spawn(move || {
        let _guard = poisoner.lock();
        panic!("with the lock");
    });
    assert!(panicked.join().is_err());
    append(&event_log, 1..=1);
    assert_eq!(seqs(&read(&mut subscription).await), [1]);
}

fn blocking(at_most: Duration) -> SubscriptionRequest {
    SubscriptionRequest { block: Some(at_most), ..SubscriptionRequest::default() }
}

/// Check that a blocking subscriber that reads loses nothing from a journal of four events.
#[tokio::test]
async fn a_blocking_subscriber_that_reads_loses_nothing() {
    let event_log = event_log(4);
    let mut subscription =
        event_log.subscribe(blocking(Duration::from_secs(60))).expect("accepted");
    let writer = {
        let event_log = event_log.clone();
        thread::spawn(move || {
            (1..=500).for_each(|batch| append(&event_log, batch * 10 - 9..=batch * 10))
        })
    };
    let mut expected = 1;
    while expected <= 5000 {
        let batch = read(&mut subscription).await;
        assert_eq!(batch.gaps, []);
        for seq in seqs(&batch) {
            assert_eq!(seq, expected);
            expected += 1;
        }
    }
    writer.join().expect("the writer finished");
}

/// Check that `append` waits once for a blocking subscriber that never reads, for its limit.
#[test]
fn append_waits_once_for_a_blocking_subscriber_that_never_reads() {
    const BOUND: Duration = Duration::from_millis(100);
    let event_log = event_log(4);
    let subscription = event_log.subscribe(blocking(BOUND)).expect("accepted");
    let begun = Instant::now();
    append(&event_log, 1..=1000);
    assert!(begun.elapsed() >= BOUND);
    assert!(begun.elapsed() < BOUND * 50, "996 evictions and one wait");
    drop(subscription);
}

/// Check that a waiting publisher continues when the blocking subscriber is dropped.
#[test]
fn a_publisher_does_not_wait_for_a_dropped_subscriber() {
    let event_log = event_log(4);
    let subscription = event_log.subscribe(blocking(Duration::from_secs(3600))).expect("accepted");
    let done = Arc::new((Mutex::new(false), Condvar::new()));
    let writer = {
        let (event_log, done) = (event_log.clone(), done.clone());
        thread::spawn(move || {
            append(&event_log, 1..=100);
            *done.0.lock().expect("whole") = true;
            done.1.notify_all();
        })
    };
    let waiting = done.1.wait_timeout_while(
        done.0.lock().expect("whole"),
        Duration::from_millis(50),
        |done| !*done,
    );
    assert!(waiting.expect("whole").1.timed_out(), "the publisher waits");
    drop(subscription);
    writer.join().expect("the publisher continues");
}

/// Check that `append` never waits on a thread that runs tasks, because the subscribers run there.
#[tokio::test]
async fn a_publisher_on_the_async_thread_never_waits() {
    let event_log = event_log(4);
    let mut subscription =
        event_log.subscribe(blocking(Duration::from_secs(3600))).expect("accepted");
    append(&event_log, 1..=100);
    assert_eq!(read(&mut subscription).await.gaps.first().and_then(|gap| gap.lost), Some(96));
}

/// One step of a random run.
#[derive(Debug, Clone)]
enum Step {
    Publish(Vec<(bool, u8)>),
    Read(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        proptest::collection::vec((any::<bool>(), 0..3_u8), 1..12).prop_map(Step::Publish),
        (0..3_usize, 1..6_usize).prop_map(|(reader, events)| Step::Read(reader, events)),
    ]
}

proptest! {
    /// Check for three subscribers of any speed that the delivered and the lost events together are
    /// the matching events, and that events arrive in order; with limits and cooldowns.
    #[test]
    fn delivered_and_lost_are_the_matching_events(
        steps in proptest::collection::vec(step(), 1..60),
        capacity in 2..20_usize,
    ) {
        let exits = |limit, cooldown| FilterSpec {
            types: vec!["process.exit".into()],
            failures: true,
            limit,
            cooldown: Duration::from_nanos(cooldown),
            ..FilterSpec::default()
        };
        let wanted = [vec![], vec![exits(0, 0)], vec![exits(7, 3)]];
        let event_log = event_log(capacity);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut readers: Vec<_> = wanted
            .iter()
            .map(|filters| SubscriptionRequest {
                filters: filters.clone(),
                ..SubscriptionRequest::default()
            })
            .map(|request| event_log.subscribe(request).expect("accepted"))
            .collect();
        let mut received = vec![(Vec::new(), 0_u64); readers.len()];
        let mut events = Vec::new();
        let mut take = |reader: usize, limit: usize, received: &mut Vec<(Vec<u64>, u64)>| {
            let bounds = ReadBounds { events: limit, bytes: usize::MAX };
            let batch = runtime.block_on(async {
                futures::poll!(std::pin::pin!(readers[reader].next(bounds)))
            });
            let std::task::Poll::Ready(Some(batch)) = batch else { return false };
            received[reader].1 += batch.gaps.iter().filter_map(|gap| gap.lost).sum::<u64>();
            received[reader].0.extend(seqs(&batch));
            true
        };
        for step in steps {
            match step {
                Step::Publish(batch) => {
                    let mut batch: Vec<_> = batch.into_iter().map(|(is_exit, code)| {
                        let at_ns = events.len() as u64 + 1;
                        events.push((at_ns, is_exit && code > 0));
                        if is_exit { event(at_ns, exit(1, code)) } else { throttle(at_ns) }
                    }).collect();
                    event_log.append(&mut batch);
                }
                Step::Read(reader, limit) => { take(reader, limit, &mut received); }
            }
        }
        for reader in 0..3 {
            while take(reader, 100, &mut received) {}
        }
        let all: Vec<u64> = events.iter().map(|(seq, _)| *seq).collect();
        let failures: Vec<u64> =
            events.iter().filter(|(_, failed)| *failed).map(|(seq, _)| *seq).collect();
        let mut rare: Vec<u64> = Vec::new();
        for seq in &failures {
            if rare.len() < 7 && rare.last().is_none_or(|last| seq - last >= 3) {
                rare.push(*seq);
            }
        }
        for ((delivered, lost), matching) in received.iter().zip([all, failures, rare]) {
            prop_assert_eq!(delivered.len() as u64 + lost, matching.len() as u64);
            prop_assert!(delivered.iter().all(|seq| matching.contains(seq)));
            prop_assert!(delivered.is_sorted_by(|a, b| a < b));
        }
    }
}
