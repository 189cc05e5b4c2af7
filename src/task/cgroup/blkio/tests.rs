use std::fs;

use super::*;

/// Check that each operation of a device is reported, and the sum of all devices is not.
#[test]
fn each_operation_of_a_device_is_an_entry() {
    let content = b"254:0 Read 4096\n254:0 Total 4096\nTotal 4096\n";
    let entries: Vec<_> = entries(content).map(|e| (e.major, e.minor, e.op, e.value)).collect();
    assert_eq!(entries, [(254, 0, "Read".to_owned(), 4096), (254, 0, "Total".to_owned(), 4096)]);
}

/// Check that a line without an operation is an entry with an empty one (`sectors_recursive`).
#[test]
fn a_line_without_operation_is_an_entry() {
    let entry = entries(b"8:16 77\n").next().unwrap();
    assert_eq!((entry.minor, entry.op.as_str(), entry.value), (16, "", 77));
}

/// Check that the files of throttling are read if those of CFQ exist but have no entries.
#[test]
fn throttling_is_used_if_cfq_has_no_entries() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("blkio.io_serviced_recursive"), "Total 0\n").unwrap();
    fs::write(folder.path().join("blkio.throttle.io_serviced"), "8:0 Write 3\nTotal 3\n").unwrap();
    let stat = stat(&Dir::new(folder.path().to_owned()));
    assert_eq!(stat.io_serviced_recursive[0].value, 3);
}
