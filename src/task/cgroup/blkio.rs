//! Block I/O statistics of version 1.

use containerd_shim_protos::cgroups::metrics::{BlkIOEntry, BlkIOStat};

use super::{dir::Dir, file_format};
use crate::linux::partitions;

/// Returns one of the lists of entries in a `BlkIOStat`.
type EntryList = fn(&mut BlkIOStat) -> &mut Vec<BlkIOEntry>;

/// The files of the CFQ scheduler, which Linux 5.0 removed. The kernels of old enterprise hosts
/// still have it.
const CFQ_FILES: &[(&str, EntryList)] = &[
    ("blkio.sectors_recursive", |stat| &mut stat.sectors_recursive),
    ("blkio.io_service_bytes_recursive", |stat| &mut stat.io_service_bytes_recursive),
    ("blkio.io_serviced_recursive", |stat| &mut stat.io_serviced_recursive),
    ("blkio.io_queued_recursive", |stat| &mut stat.io_queued_recursive),
    ("blkio.io_service_time_recursive", |stat| &mut stat.io_service_time_recursive),
    ("blkio.io_wait_time_recursive", |stat| &mut stat.io_wait_time_recursive),
    ("blkio.io_merged_recursive", |stat| &mut stat.io_merged_recursive),
    ("blkio.time_recursive", |stat| &mut stat.io_time_recursive),
];

/// The files that every kernel has. Their values are not recursive, although the names of the
/// fields say so; the Go library fills the same fields.
const THROTTLE_FILES: &[(&str, EntryList)] = &[
    ("blkio.throttle.io_serviced", |stat| &mut stat.io_serviced_recursive),
    ("blkio.throttle.io_service_bytes", |stat| &mut stat.io_service_bytes_recursive),
];

/// The block I/O statistics of a cgroup: from the files of CFQ, or from those of throttling if CFQ
/// has no entries.
pub(super) fn stat(dir: &Dir) -> BlkIOStat {
    let mut stat = BlkIOStat::default();
    let mut names = None;
    for files in [CFQ_FILES, THROTTLE_FILES] {
        let mut found = false;
        for (file, list) in files {
            let Some(content) = dir.content(file) else {
                continue;
            };
            let mut entries: Vec<_> = entries(&content).collect();
            if entries.is_empty() {
                continue;
            }
            found = true;
            // The names are read once, and only if there are entries, because their file lists all
            // devices of the node.
            let names = names.get_or_insert_with(partitions::names);
            for entry in &mut entries {
                let name = names.get(&(entry.major, entry.minor));
                entry.device = name.map(|name| format!("/dev/{name}")).unwrap_or_default();
            }
            *list(&mut stat) = entries;
        }
        // CFQ and throttling fill the same fields, so only one of them is read.
        if found {
            break;
        }
    }
    stat
}

/// Parses lines such as `8:0 Read 4096` or `8:0 4096`. The last line, a sum without a device, is
/// skipped.
pub(super) fn entries(content: &[u8]) -> impl Iterator<Item = BlkIOEntry> {
    file_format::lines(content).filter_map(|line| {
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

#[cfg(test)]
mod tests;
