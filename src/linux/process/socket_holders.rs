//! The processes that hold each socket.

use std::{collections::HashMap, fs};

use super::identify;
use crate::model::ProcessKey;

/// How many descriptors one call reads, of all processes together. Processes that hold a socket by
/// a further descriptor are not found.
const DESCRIPTORS_LIMIT: usize = 65_536;

/// The sockets, by inode, that processes of `among` have open, each with the processes that have it
/// open, in the order of `among`; and whether all descriptors were read.
#[must_use]
pub fn socket_holders(among: &[ProcessKey]) -> (HashMap<u64, Vec<ProcessKey>>, bool) {
    let mut holders: HashMap<u64, Vec<ProcessKey>> = HashMap::new();
    let mut left = DESCRIPTORS_LIMIT;
    for key in among {
        let held = socket_inodes_of(key.pid, &mut left);
        // The identity is checked after the read, because the pid may have been reused before.
        if held.is_empty() || identify(key.pid) != Some(*key) {
            continue;
        }
        for inode in held {
            let keys = holders.entry(inode).or_default();
            // A process may have several descriptors of one socket.
            if keys.last() != Some(key) {
                keys.push(*key);
            }
        }
    }
    (holders, left > 0)
}

/// The inodes of the sockets that a process has open, without duplicates. `left` is the number of
/// descriptors that may still be read.
fn socket_inodes_of(pid: i32, left: &mut usize) -> Vec<u64> {
    // For a dead process the directory is empty, and for a reaped one it does not exist.
    let Ok(directory) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in directory.flatten() {
        if *left == 0 {
            break;
        }
        *left -= 1;
        let link = fs::read_link(entry.path()).ok();
        found.extend(link.as_deref().and_then(|link| socket_inode(link.to_str()?)));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The inode in the link of a descriptor that is a socket, such as `socket:[4711]`.
pub(super) fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}
