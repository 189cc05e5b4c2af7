//! A subscriber that reconnects receives everything once.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::harness::{
    containerd::{Containerd, ObservedEvent, Version},
    deadline,
};

/// Check that a subscriber that is killed every second for a minute and reconnects with its cursor
/// receives every event once.
#[test]
fn a_subscriber_that_is_killed_every_second_has_every_event_once() {
    let containerd = Containerd::start(Version::V1_7);
    let calls = "i=0; while :; do /bin/true $i; usleep 2000; i=$((i+1)); done";
    containerd.detached("c", &[], &["sh", "-c", calls]);
    let end = Instant::now() + Duration::from_secs(60);
    let (mut received, mut cursor) = (Vec::new(), None::<String>);
    while Instant::now() < end {
        let mut arguments = vec!["events", "-f", "-o", "jsonl", "--container", "c"];
        if let Some(cursor) = &cursor {
            arguments.extend(["--since", cursor]);
        }
        let subscriber = containerd.lookout(&arguments).spawn();
        std::thread::sleep(Duration::from_secs(1));
        // It is killed, so an event counts as received only if it was printed.
        subscriber.signal(Signal::SIGKILL);
        // The last line may be incomplete, then it is none of these.
        let records: Vec<ObservedEvent> =
            subscriber.wait().rows.into_iter().map(ObservedEvent).collect();
        assert!(
            records.iter().all(|event| event.kind() != "observer.gap"),
            "the journal was too short"
        );
        let events: Vec<ObservedEvent> =
            records.into_iter().filter(|event| event.number("/seq").is_some()).collect();
        if let Some(last) = events.last() {
            cursor =
                Some(format!("{}:{}", last.text("/epoch"), last.number("/seq").expect("filtered")));
        }
        received.extend(events);
    }
    let seqs: Vec<u64> = received.iter().filter_map(|event| event.number("/seq")).collect();
    assert!(seqs.len() > 1000, "only {} events", seqs.len());
    let hole = seqs.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert_eq!(hole, None, "of {} events", seqs.len());
    assert_eq!(seqs.iter().collect::<BTreeSet<_>>().len(), seqs.len());
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    deadline::until("the end", || containerd.status("c").is_none_or(|status| status == "STOPPED"));
    containerd.remove("c");
    containerd.assert_nothing_left();
}
