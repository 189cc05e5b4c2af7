//! The identity of an open file.

use serde::{Deserialize, Serialize};

/// The identity of an open file, which distinguishes all files of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// The device of the file, as `stat.st_dev` encodes it.
    pub device: u64,
    /// The inode number, unique on its device while the file exists.
    pub inode: u64,
}
