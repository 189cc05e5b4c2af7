//! Who holds which socket.

use std::{collections::HashMap, fs};

use super::identify;
use crate::model::ProcessKey;

/// How many descriptors one question looks at, over all processes; a holder beyond that is not
/// found.
const DESCRIPTORS_LIMIT: usize = 65_536;

/// The inodes of the sockets that each of `among` has open, with those that do, in the order of
/// `among`.
#[must_use]
pub fn socket_holders(among: &[ProcessKey]) -> HashMap<u64, Vec<ProcessKey>> {
    let mut holders: HashMap<u64, Vec<ProcessKey>> = HashMap::new();
    let mut left = DESCRIPTORS_LIMIT;
    for key in among {
        let held = sockets(key.pid, &mut left);
        if held.is_empty() || identify(key.pid) != Some(*key) {
            continue;
        }
        for inode in held {
            let keys = holders.entry(inode).or_default();
            // Two descriptors of one socket.
            if keys.last() != Some(key) {
                keys.push(*key);
            }
        }
    }
    holders
}

fn sockets(pid: i32, left: &mut usize) -> Vec<u64> {
    // Of a dead process the folder is empty, of a reaped one it is not there.
    let Ok(folder) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in folder.flatten() {
        if *left == 0 {
            break;
        }
        *left -= 1;
        let link = fs::read_link(entry.path()).ok();
        let name = link.as_deref().and_then(|link| link.to_str());
        let inode = name.and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']'));
        found.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
    }
    found.sort_unstable();
    found.dedup();
    found
}
