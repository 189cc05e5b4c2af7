//! Each event is stored once, or a gap says how many are missing.

use std::{fs::File, io::Read as _, thread, time::Duration};

use lookout::api::HistoryEventsRequest;

use crate::{
    daemon::{Account, Node, accounts},
    script::{Script, Shim},
};

/// The shims of a test, which emit 2,000 events a second together.
const SHIMS: u64 = 4;

/// Check that the history of a daemon that is killed at random moments has each event of its shims
/// once, as they emitted it.
#[test]
fn each_event_is_stored_once_over_eight_kills() {
    kill_at_random_moments(8, u64::MAX);
}

/// Check the same with 100 kills.
#[test]
#[ignore = "takes a minute: hack/history runs it"]
fn each_event_is_stored_once_over_a_hundred_kills() {
    kill_at_random_moments(100, u64::MAX);
}

/// Check that gaps say how many events are missing if the shims' journals are too small for the
/// time without a daemon.
#[test]
fn what_the_journals_lack_is_counted_over_eight_kills() {
    kill_at_random_moments(8, 60);
}

/// Kills the daemon at random moments. Then its history must have each event of each shim, or gaps
/// that say exactly how many are missing; and none may be missing if the shims keep all.
fn kill_at_random_moments(kills: usize, kept: u64) {
    let mut node = Node::new(&[]);
    let script = |number: u64| Script { kept, ..Script::new(&format!("s{number}"), 2000 / SHIMS) };
    let shims: Vec<Shim> =
        (0..SHIMS).map(|number| Shim::start(node.path(), script(number))).collect();
    let mut random = File::open("/dev/urandom").unwrap();
    for _ in 0..kills {
        let mut byte = [0; 2];
        random.read_exact(&mut byte).unwrap();
        node.spawn();
        // A daemon serves after some 20 ms, and stores its first events 100 ms later.
        thread::sleep(Duration::from_millis(10 + u64::from(u16::from_ne_bytes(byte)) % 490));
        node.kill();
    }
    node.start();
    let lasts: Vec<u64> = shims.iter().map(Shim::finish).collect();
    node.until("the history to have the last events", || {
        shims.iter().zip(&lasts).all(|(shim, last)| node.cursor(&shim.script.epoch()) == *last)
    });
    let (_, events) = node.events(&HistoryEventsRequest::new());
    let accounts = accounts(&events);
    let mut missing = 0;
    for (shim, last) in shims.iter().zip(lasts) {
        let account: &Account = &accounts[&shim.script.epoch()];
        account.assert_in_order();
        assert_eq!((account.missing(last), account.uncounted), (account.lost, 0));
        missing += account.lost;
    }
    assert_eq!(missing > 0, kept < u64::MAX, "{missing} events are missing");
    for event in events.iter().filter(|event| event.seq > 0) {
        let shim = shims.iter().find(|shim| shim.script.epoch() == event.epoch).unwrap();
        assert_eq!(*event, shim.script.event(event.seq));
    }
    let stored = events.len();
    eprintln!("{kills} kills, {stored} events of {SHIMS} shims, {missing} missing, all counted");
}

/// Check that numbers that a shim leaves out without a gap become a gap in the history.
#[test]
fn a_hole_in_the_numbers_of_a_shim_becomes_a_gap() {
    let mut node = Node::new(&[]);
    let script = Script { hole: 50..60, ..Script::new("s", 1000) };
    let shim = Shim::start(node.path(), script);
    shim.finish_at(200);
    node.start();
    node.until("the events", || node.cursor(&shim.script.epoch()) == 200);
    let (_, events) = node.events(&HistoryEventsRequest::new());
    let account = &accounts(&events)[&shim.script.epoch()];
    account.assert_in_order();
    assert_eq!((account.missing(200), account.lost, account.uncounted), (10, 10, 0));
    let at = events.iter().position(|event| event.type_ == "observer.gap").unwrap();
    let gap = events[at].gap();
    assert_eq!((events[at - 1].seq, events[at + 1].seq, &*gap.stage), (49, 60, "history"));
    let times = (events[at - 1].monotonic_ns, events[at + 1].monotonic_ns);
    assert_eq!((gap.from_ns, gap.to_ns), times);
}
