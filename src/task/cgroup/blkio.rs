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
            let Some(content) = dir.content(file) else {
                continue;
            };
            let mut entries: Vec<_> = entries(&content).collect();
            if entries.is_empty() {
                continue;
            }
            told = true;
            let devices = devices.get_or_insert_with(|| {
                partitions(&fs::read("/proc/partitions").unwrap_or_default())
            });
            for entry in &mut entries {
                entry.device =
                    devices.get(&(entry.major, entry.minor)).cloned().unwrap_or_default();
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
        if let (Some(Ok(major)), Some(Ok(minor)), Some(name)) =
            (major.map(str::parse), minor.map(str::parse), name)
        {
            devices.entry((major, minor)).or_insert_with(|| format!("/dev/{name}"));
        }
    }
    devices
}

#[cfg(test)]
mod tests;
