use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;

fn is_readable(source: &MockSource) -> bool {
    let mut ready = [PollFd::new(source.fd().unwrap(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::ZERO).unwrap() == 1
}

fn all(source: &mut MockSource) -> Vec<Record> {
    let mut records = Vec::new();
    while source.read(2, &mut |record| records.push(record)).unwrap() {}
    records
}

/// Check that the descriptor is readable exactly while there are records, so that any event loop
/// can wait for it.
#[test]
fn the_descriptor_is_readable_while_there_are_records() {
    let (mut source, script) = MockSource::new().unwrap();
    source.watch(TargetId(1), &Target::Tree { pid: 10 }).unwrap();
    // The watch made it readable, for steps from before.
    all(&mut source);
    assert!(!is_readable(&source));
    let writer = script.clone();
    std::thread::spawn(move || (0..5).for_each(|child| writer.fork(10, 20 + child)))
        .join()
        .unwrap();
    assert!(is_readable(&source));
    let mut records = Vec::new();
    assert!(source.read(2, &mut |record| records.push(record)).unwrap());
    assert!(is_readable(&source), "three are left");
    assert_eq!(all(&mut source).len(), 3);
    assert!(!is_readable(&source));
}

/// Check that children belong to their parent's target, and that a reused pid is another process.
#[test]
fn processes_have_lineage_and_identity() {
    let (mut source, script) = MockSource::new().unwrap();
    script.exit(77, 9);
    assert_eq!(all(&mut source), [], "without a target");
    source.watch(TargetId(1), &Target::Tree { pid: 10 }).unwrap();
    source.watch(TargetId(2), &Target::Tree { pid: 50 }).unwrap();
    assert!(is_readable(&source), "the steps from before the watch are readable");
    script.fork(10, 11);
    script.fork(11, 12);
    script.exit(11, 0);
    script.fork(50, 11);
    let records = all(&mut source);
    let of = |at: usize| match &records[at] {
        Record::Process { target, key, what, .. } => (*target, *key, what.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (of(0).0, of(0).1.pid),
        (TargetId(2), 77),
        "an unknown process belongs to the newest target"
    );
    let (first, second, again) = (of(1), of(2), of(4));
    assert_eq!((first.0, again.0), (TargetId(1), TargetId(2)));
    let What::Fork(lineage) = second.2 else { panic!("{second:?}") };
    assert_eq!((lineage.parent, lineage.grandparent_pid), (Some(first.1), Some(10)));
    assert_ne!(first.1, again.1);
}

/// Check that each error is returned once, at its place in the script.
#[test]
fn scripted_errors_are_returned_once_and_in_order() {
    let (mut source, script) = MockSource::new().unwrap();
    script.refuse_watch(SourceError::Missing { what: "a kernel" });
    assert!(matches!(
        source.watch(TargetId(1), &Target::Tree { pid: 1 }),
        Err(SourceError::Missing { .. })
    ));
    source.watch(TargetId(1), &Target::Tree { pid: 1 }).unwrap();
    script.lose(4);
    script.fail(SourceError::Gone { what: "the script" });
    script.exec(1, &["init", ""]);
    let mut records = Vec::new();
    let error = loop {
        match source.read(1, &mut |record| records.push(record)) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SourceError::Gone { .. }));
    assert!(matches!(records[..], [Record::Lost { count: Some(4), .. }]));
    assert!(matches!(all(&mut source)[..], [Record::Process { what: What::Exec { .. }, .. }]));
}
