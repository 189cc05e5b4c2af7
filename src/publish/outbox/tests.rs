use super::*;

/// Check that records are read in the order in which they were appended.
#[test]
fn records_are_read_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::create(&folder.path().join("outbox"));
    for number in 0..100_u32 {
        outbox.append(&number.to_le_bytes());
    }
    for number in 0..100_u32 {
        assert_eq!(outbox.records(), u64::from(100 - number));
        assert_eq!(outbox.front().unwrap().unwrap(), number.to_le_bytes());
        outbox.pop(4);
    }
    assert!(outbox.is_empty());
    assert_eq!(
        folder.path().join("outbox").metadata().unwrap().len(),
        0,
        "an acknowledged outbox is empty"
    );
}

/// Check that no record is lost or reordered when the filesystem is full.
#[test]
fn records_are_kept_in_memory_when_the_filesystem_is_full() {
    let mut outbox = Outbox::create(Path::new("/dev/full"));
    outbox.append(b"one");
    outbox.append(b"two");
    assert_eq!((outbox.waiting(), outbox.records()), (6, 2));
    assert_eq!(outbox.front().unwrap().unwrap(), b"one");
    outbox.pop(3);
    assert_eq!(outbox.front().unwrap().unwrap(), b"two");
    outbox.pop(3);
    assert!(outbox.is_empty());
}

/// Check that memory is bounded if there is no file: the newest records are lost.
#[test]
fn memory_is_bounded_without_a_file() {
    let mut outbox = Outbox::create(Path::new("/nonexistent/outbox"));
    for _ in 0..3 {
        outbox.append(&vec![0; MEMORY_MAX / 2]);
    }
    assert_eq!((outbox.waiting(), outbox.records()), (MEMORY_MAX as u64, 2));
    assert_eq!(outbox.lost, 1);
}
