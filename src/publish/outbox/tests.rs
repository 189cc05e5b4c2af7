use super::*;

/// Does what is to be done with the file, as the sender does.
fn tend_file(outbox: &mut Outbox) {
    while let Some(job) = outbox.next_job() {
        let result = job.run();
        outbox.ended(&job, result);
    }
}

fn front(outbox: &Outbox) -> Vec<u8> {
    outbox.front().unwrap().read().unwrap()
}

/// Check that records are read in the order in which they were appended, and that the file is
/// empty when all are acknowledged.
#[test]
fn records_are_read_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::create(&folder.path().join("outbox"));
    let length = || folder.path().join("outbox").metadata().unwrap().len();
    for number in 0..100_u32 {
        outbox.append(&number.to_le_bytes());
        if number == 20 {
            outbox.use_file();
        }
        tend_file(&mut outbox);
    }
    assert_eq!((length(), outbox.memory.len()), (800, 0));
    for number in 0..100_u32 {
        assert_eq!(outbox.records(), u64::from(100 - number));
        assert_eq!(front(&outbox), number.to_le_bytes());
        outbox.pop(4);
    }
    tend_file(&mut outbox);
    assert!(outbox.is_empty());
    assert_eq!(length(), 0, "an acknowledged outbox is empty");
}

/// Check that no record is lost, doubled or reordered when records are appended and acknowledged
/// while the file is being written, which may take long.
#[test]
fn records_stay_in_order_while_the_file_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox");
    for acknowledged in 0..5_u8 {
        let mut outbox = Outbox::create(&path);
        outbox.use_file();
        [0, 1].iter().for_each(|byte| outbox.append(&[*byte]));
        let job = outbox.next_job().unwrap();
        [2, 3].iter().for_each(|byte| outbox.append(&[*byte]));
        assert!(outbox.next_job().is_none(), "one job at a time");
        let mut read = Vec::new();
        let mut acknowledge = |outbox: &mut Outbox| {
            read.extend(front(outbox));
            outbox.pop(1);
        };
        (0..acknowledged.min(4)).for_each(|_| acknowledge(&mut outbox));
        let result = job.run();
        outbox.ended(&job, result);
        tend_file(&mut outbox);
        outbox.append(&[4]);
        while !outbox.is_empty() {
            acknowledge(&mut outbox);
            tend_file(&mut outbox);
        }
        assert_eq!(read, [0, 1, 2, 3, 4], "{acknowledged} acknowledged meanwhile");
        assert_eq!(path.metadata().unwrap().len(), 0);
    }
}

/// Check that many records go to the file although no delivery has failed.
#[test]
fn many_records_go_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::create(&folder.path().join("outbox"));
    for _ in 0..100 {
        outbox.append(&vec![0; MEMORY_MAX / 50]);
        tend_file(&mut outbox);
    }
    assert_eq!((outbox.records(), outbox.lost), (100, 0));
    assert!(outbox.memory_bytes <= MEMORY_MAX / 16);
}

/// Check that no record is lost or reordered when the filesystem is full.
#[test]
fn records_are_kept_in_memory_when_the_filesystem_is_full() {
    let mut outbox = Outbox::create(Path::new("/dev/full"));
    outbox.use_file();
    outbox.append(b"one");
    tend_file(&mut outbox);
    outbox.append(b"two");
    tend_file(&mut outbox);
    assert_eq!((outbox.waiting(), outbox.records()), (6, 2));
    assert_eq!(front(&outbox), b"one");
    outbox.pop(3);
    assert_eq!(front(&outbox), b"two");
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
