//! The history stays within its size and age.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use lookout::api::HistoryEventsRequest;

use crate::{
    daemon::{Node, accounts},
    script::{Script, Shim},
};

/// The size of the history: the least that can be configured.
const SIZE: u64 = 16 << 20;

/// Each event has an argument of this length, so that few events fill the history.
const EXTRA_BYTES: usize = 3000;

/// Bytes of the database and its write-ahead log.
fn size(node: &Node) -> u64 {
    let length = |name: &str| {
        fs::metadata(node.path().join("registry").join(name)).map_or(0, |metadata| metadata.len())
    };
    length("history.db") + length("history.db-wal")
}

/// Check that the size is kept while three times as many events are stored, and that the answer
/// says since when it is complete.
#[test]
fn the_size_is_kept_while_three_times_as_much_is_stored() {
    let mut node = Node::new(&[("LOOKOUT_HISTORY_SIZE", "16MiB")]);
    let events = 3 * SIZE / EXTRA_BYTES as u64;
    let script = Script { extra_bytes: EXTRA_BYTES, ..Script::new("web", 100_000) };
    let shim = Shim::start(node.path(), script);
    shim.finish_at(events);
    node.start();
    let epoch = shim.script.epoch();
    let mut greatest = 0;
    node.until_within(Duration::from_secs(200), "all events", || {
        greatest = greatest.max(size(&node));
        node.cursor(&epoch) == events
    });
    assert!(greatest <= SIZE, "{greatest} bytes");
    assert!(greatest > SIZE / 2, "{greatest} bytes");
    let (state, stored) = node.events(&HistoryEventsRequest::new());
    let account = &accounts(&stored)[&epoch];
    account.assert_in_order();
    let oldest = account.seqs[0];
    assert!(oldest > events / 2, "{oldest}");
    // What is left is complete, and begins where the answer says so.
    let lost: u64 = node.metric("lookout_history_lost_events_total");
    assert_eq!(account.missing(events) - (oldest - 1), account.lost);
    assert!(account.lost <= lost);
    let removed: u64 = node
        .read()
        .query_row("SELECT value FROM meta WHERE key = 'removed_before_ns'", [], |row| row.get(0))
        .unwrap();
    assert!(stored.iter().all(|event| event.time_ns >= removed), "{oldest}");
    assert!(state.complete_since_ns >= removed);
    eprintln!("{events} events, at most {greatest} bytes, the last {} kept", account.seqs.len());
}

/// Check that a smaller size takes effect when the daemon starts, and that the file shrinks.
#[test]
fn a_smaller_size_takes_effect_at_the_next_start() {
    let mut node = Node::new(&[("LOOKOUT_HISTORY_SIZE", "64MiB")]);
    let script = Script { extra_bytes: EXTRA_BYTES, ..Script::new("web", 100_000) };
    let shim = Shim::start(node.path(), script);
    let events = 2 * SIZE / EXTRA_BYTES as u64;
    shim.finish_at(events);
    node.start();
    node.until("all events", || node.cursor(&shim.script.epoch()) == events);
    node.stop();
    assert!(size(&node) > SIZE, "{}", size(&node));
    node.set("LOOKOUT_HISTORY_SIZE", "16MiB");
    node.start();
    node.until("the file to shrink", || size(&node) <= SIZE);
    let (_, stored) = node.events(&HistoryEventsRequest::new());
    assert_eq!(accounts(&stored)[&shim.script.epoch()].seqs.last(), Some(&events));
}

/// Check that events that are older than `history_age` are removed and not in an answer, and that
/// later ones stay.
#[test]
fn events_are_removed_after_their_age() {
    let mut node = Node::new(&[("LOOKOUT_HISTORY_AGE", "2m")]);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    // The first events are four minutes old, and the last ones of now.
    let began_ns = u64::try_from(now.as_nanos()).unwrap() - 240_000_000_000;
    let script = Script { began_ns, spacing_ns: 80_000_000, ..Script::new("web", 100_000) };
    let shim = Shim::start(node.path(), script);
    shim.finish_at(3000);
    node.start();
    let epoch = shim.script.epoch();
    node.until("all events", || node.cursor(&epoch) == 3000);
    let (state, stored) = node.events(&HistoryEventsRequest::new());
    let oldest = stored.iter().map(|event| event.time_ns).min().unwrap();
    assert!(oldest >= began_ns + 119_000_000_000);
    assert!(state.complete_since_ns >= began_ns + 119_000_000_000);
    assert!(stored.len() > 1000, "{}", stored.len());
    let count: u64 =
        node.read().query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
    assert!(count < 2000, "{count}");
}
