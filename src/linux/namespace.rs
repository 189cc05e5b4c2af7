//! The namespaces of a process.

use std::io;

use super::read::link;

/// A kind of namespace, by the name of its link in `/proc/PID/ns` (namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The mount namespace (`CLONE_NEWNS`).
    Mount,
    /// The network namespace (`CLONE_NEWNET`).
    Network,
    /// The pid namespace (`CLONE_NEWPID`).
    Pid,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Mount => "mnt",
            Self::Network => "net",
            Self::Pid => "pid",
        }
    }
}

/// The inode number of a process's namespace. An inode number is reused after its namespace has
/// ended.
///
/// # Errors
///
/// The error of readlink(2): `ENOENT` if the process is gone, `EACCES` without the right to ptrace
/// it; `InvalidData` for a link that cannot be parsed.
pub fn inode(pid: i32, kind: Kind) -> io::Result<u32> {
    inode_of(&pid.to_string(), kind)
}

/// The inode number of the namespace of this process.
///
/// # Errors
///
/// As [`inode`].
pub fn own_inode(kind: Kind) -> io::Result<u32> {
    inode_of("self", kind)
}

/// The path of the link to a process's namespace, which can be opened for setns(2).
#[must_use]
pub fn path(pid: i32, kind: Kind) -> String {
    format!("/proc/{pid}/ns/{}", kind.name())
}

fn inode_of(process: &str, kind: Kind) -> io::Result<u32> {
    // The link is read and not followed: stat(2) gives the same number, but costs a lookup in nsfs.
    let text = link(&format!("/proc/{process}/ns/{}", kind.name()))?;
    parse(&text, kind.name()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Parses the text of a link, such as `pid:[4026531836]` (`ns_get_name`, fs/nsfs.c).
pub(super) fn parse(text: &[u8], name: &str) -> Option<u32> {
    let text = str::from_utf8(text).ok()?;
    text.strip_prefix(name)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that only a link of the right kind is parsed.
    #[test]
    fn the_inode_is_the_number_in_the_link() {
        assert_eq!(parse(b"pid:[4026531836]", "pid"), Some(4_026_531_836));
        assert_eq!(parse(b"mnt:[4026531836]", "pid"), None);
        assert_eq!(parse(b"pid:[]", "pid"), None);
        assert_eq!(parse(b"\xff", "pid"), None);
    }

    /// Check that the namespaces of this process can be read by its pid.
    #[test]
    fn each_kind_can_be_read_of_this_process() {
        let pid = std::process::id().cast_signed();
        for kind in [Kind::Mount, Kind::Network, Kind::Pid] {
            assert_eq!(inode(pid, kind).unwrap(), own_inode(kind).unwrap());
        }
        assert!(inode(i32::MAX, Kind::Pid).is_err());
    }
}
