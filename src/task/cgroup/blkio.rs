//! Block I/O of version 1.

use std::{collections::HashMap, fs};

use containerd_shim_protos::cgroups::metrics::{BlkIOEntry, BlkIOStat};

use super::{content, dir::Dir};

type List = fn(&mut BlkIOStat) -> &mut Vec<BlkIOEntry>;

/// What the CFQ scheduler kept; gone with Linux 5.0, still in the kernels of old enterprise hosts.
const CFQ: &[(&str, List)] = &[
    ("blkio.sectors_recursive", |stat| &mut stat.sectors_recursive),
    ("blkio.io_service_bytes_recursive", |stat| &mut stat.io_service_bytes_recursive),
    ("blkio.io_serviced_recursive", |stat| &mut stat.io_serviced_recursive),
    ("blkio.io_queued_recursive", |stat| &mut stat.io_queued_recursive),
    ("blkio.io_service_time_recursive", |stat| &mut stat.io_service_time_recursive),
    ("blkio.io_wait_time_recursive", |stat| &mut stat.io_wait_time_recursive),
    ("blkio.io_merged_recursive", |stat| &mut stat.io_merged_recursive),
    ("blkio.time_recursive", |stat| &mut stat.io_time_recursive),
];

/// What every kernel keeps. Not recursive, whatever the fields are called: so does the Go library.
const THROTTLE: &[(&str, List)] = &[
    ("blkio.throttle.io_serviced", |stat| &mut stat.io_serviced_recursive),
    ("blkio.throttle.io_service_bytes", |stat| &mut stat.io_service_bytes_recursive),
];

/// A device number, and the path under `/dev` that it first has.
type Devices = HashMap<(u64, u64), String>;

/// Reads CFQ's files; where they tell nothing, those of throttling.
pub(super) fn stat(dir: &Dir) -> BlkIOStat {
    let mut stat = BlkIOStat::default();
    let mut devices = None;
    for files in [CFQ, THROTTLE] {
        let mut told = false;
        for (file, list) in files {
            let Some(content) = dir.content(file) else { continue };
            let mut entries: Vec<_> = entries(&content).collect();
            if entries.is_empty() {
                continue;
            }
            told = true;
            let devices = devices.get_or_insert_with(|| partitions(&fs::read("/proc/partitions").unwrap_or_default()));
            for entry in &mut entries {
                entry.device = devices.get(&(entry.major, entry.minor)).cloned().unwrap_or_default();
            }
            *list(&mut stat) = entries;
        }
        if told {
            break;
        }
    }
    stat
}

/// Parses `8:0 Read 4096` or `8:0 4096` on each line; the last line is a sum without a device.
fn entries(content: &[u8]) -> impl Iterator<Item = BlkIOEntry> {
    content::lines(content).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (op, value) = match (words.next()?, words.next()) {
            (op, Some(value)) => (op, value),
            (value, None) => ("", value),
        };
        Some(BlkIOEntry {
            op: op.to_owned(),
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            value: value.parse().ok()?,
            ..BlkIOEntry::default()
        })
    })
}

/// Parses `/proc/partitions`: major, minor, blocks, name. The first name of a device stays.
fn partitions(content: &[u8]) -> Devices {
    let mut devices = Devices::new();
    for line in content::lines(content) {
        let mut words = line.split_ascii_whitespace();
        let (major, minor, name) = (words.next(), words.next(), words.nth(1));
        if let (Some(Ok(major)), Some(Ok(minor)), Some(name)) = (major.map(str::parse), minor.map(str::parse), name) {
            devices.entry((major, minor)).or_insert_with(|| format!("/dev/{name}"));
        }
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that each device and operation is told, and the sum of all devices is not.
    #[test]
    fn each_operation_of_a_device_is_an_entry() {
        let content = b"254:0 Read 4096\n254:0 Total 4096\nTotal 4096\n";
        let entries: Vec<_> = entries(content).map(|e| (e.major, e.minor, e.op, e.value)).collect();
        assert_eq!(entries, [(254, 0, "Read".to_owned(), 4096), (254, 0, "Total".to_owned(), 4096)]);
    }

    /// Check that a line without an operation is told without one (`sectors_recursive`).
    #[test]
    fn a_line_without_operation_is_an_entry() {
        let entry = entries(b"8:16 77\n").next().unwrap();
        assert_eq!((entry.minor, entry.op.as_str(), entry.value), (16, "", 77));
    }

    /// Check that the header is no device and that the first name counts.
    #[test]
    fn devices_have_their_first_name() {
        let devices = partitions(b"major minor  #blocks  name\n\n 254        0  268435456 vda\n 254 0 1 later\n");
        assert_eq!(devices, Devices::from([((254, 0), "/dev/vda".to_owned())]));
    }

    /// Check that throttling's files serve where CFQ's are there but tell nothing.
    #[test]
    fn throttling_serves_where_cfq_tells_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("blkio.io_serviced_recursive"), "Total 0\n").unwrap();
        fs::write(folder.path().join("blkio.throttle.io_serviced"), "8:0 Write 3\nTotal 3\n").unwrap();
        let stat = stat(&Dir::new(folder.path().to_owned()));
        assert_eq!(stat.io_serviced_recursive[0].value, 3);
    }
}
