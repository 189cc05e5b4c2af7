use super::*;

/// Check that records are read in the order in which they were appended.
#[test]
fn records_are_read_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::create(&folder.path().join("journal"));
    for number in 0..100_u32 {
        journal.append(&number.to_le_bytes());
    }
    for number in 0..100_u32 {
        assert_eq!(journal.records(), u64::from(100 - number));
        assert_eq!(journal.front().unwrap().unwrap(), number.to_le_bytes());
        journal.pop(4);
    }
    assert!(journal.is_empty());
    assert_eq!(
        folder.path().join("journal").metadata().unwrap().len(),
        0,
        "an acknowledged journal is empty"
    );
}

/// Check that no record is lost or reordered when the filesystem is full.
#[test]
fn records_are_kept_in_memory_when_the_filesystem_is_full() {
    let mut journal = Journal::create(Path::new("/dev/full"));
    journal.append(b"one");
    journal.append(b"two");
    assert_eq!((journal.waiting(), journal.records()), (6, 2));
    assert_eq!(journal.front().unwrap().unwrap(), b"one");
    journal.pop(3);
    assert_eq!(journal.front().unwrap().unwrap(), b"two");
    journal.pop(3);
    assert!(journal.is_empty());
}

/// Check that memory is bounded if there is no file: the newest records are lost.
#[test]
fn memory_is_bounded_without_a_file() {
    let mut journal = Journal::create(Path::new("/nonexistent/journal"));
    for _ in 0..3 {
        journal.append(&vec![0; MEMORY_MAX / 2]);
    }
    assert_eq!((journal.waiting(), journal.records()), (MEMORY_MAX as u64, 2));
    assert_eq!(journal.lost, 1);
}
