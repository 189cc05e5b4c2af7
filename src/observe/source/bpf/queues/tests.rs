use super::*;
use crate::observe::record::Record;

const GREEDY: TargetId = TargetId(1);
const MODEST: TargetId = TargetId(2);

fn record(target: TargetId, at_ns: u64) -> Decoded {
    Decoded { target, at_ns, lost: 0, length: 0, record: Record::Connected { target, at_ns } }
}

/// The target and the time of each entry, with the number of dropped records.
fn take(queues: &mut Queues, limit: usize) -> Vec<(TargetId, u64, u64)> {
    let mut taken = Vec::new();
    queues.take(limit, |queued| {
        taken.push(match queued {
            Queued::Record(decoded) => (decoded.target, decoded.at_ns, 0),
            Queued::Dropped { target, at_ns, count } => (target, at_ns, count),
        });
    });
    taken
}

/// Check that the targets take turns, each with its records in order.
#[test]
fn targets_take_turns() {
    let mut queues = Queues::new(1 << 20);
    for at_ns in 0..6 {
        assert!(!queues.push(record(GREEDY, at_ns), 0));
    }
    assert!(!queues.push(record(MODEST, 9), 0));
    assert_eq!(take(&mut queues, 4), [(GREEDY, 0, 0), (GREEDY, 1, 0), (MODEST, 9, 0)]);
    assert!(!queues.has(MODEST) && queues.has(GREEDY));
    assert!(!queues.push(record(MODEST, 10), 0));
    assert_eq!(take(&mut queues, 1), [(GREEDY, 2, 0)]);
    assert_eq!(take(&mut queues, 1), [(MODEST, 10, 0)], "no target is served twice before others");
    assert_eq!(take(&mut queues, 9).len(), 3);
    assert!(queues.is_empty() && queues.bytes == 0);
}

/// Check that a target that makes records without end loses its own, where they are missing, and
/// that there is room for those of another target.
#[test]
fn a_target_has_a_share_of_the_bytes() {
    let mut queues = Queues::new(100 * RECORD_BYTES);
    let dropped = (0..200).filter(|at_ns| queues.push(record(GREEDY, *at_ns), 0)).count();
    assert_eq!(dropped, 150);
    assert!((0..25).all(|at_ns| !queues.push(record(MODEST, at_ns), 0)));
    let taken = take(&mut queues, 120);
    let of_greedy: Vec<_> = taken.iter().filter(|(target, ..)| *target == GREEDY).collect();
    assert_eq!(of_greedy.len(), 51);
    assert_eq!(of_greedy.last(), Some(&&(GREEDY, 199, 150)));
    assert!(!queues.push(record(GREEDY, 200), 0), "what was taken is free again");
    queues.forget(GREEDY);
    take(&mut queues, 120);
    assert!(queues.is_empty() && queues.bytes == 0);
}
