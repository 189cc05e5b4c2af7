//! A watched process: who it is, what it runs, where it came from.

use std::{fmt, sync::Arc};

/// How many ticks of `start_ticks` make a second: `USER_HZ`, 100 on every architecture that Linux
/// has containers on.
pub const TICKS_PER_SECOND: u64 = 100;

/// One process among all that ever were in this boot: a pid is reused, a pid with its start is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessKey {
    /// The thread group's id, as the host counts.
    pub pid: i32,
    /// When it began, in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start_ticks: u64,
}

impl ProcessKey {
    /// From a start in nanoseconds since boot (`task_struct.start_boottime`), rounded as
    /// `nsec_to_clock_t` of the kernel does for `/proc`.
    #[must_use]
    pub fn from_boottime(pid: i32, start_ns: u64) -> Self {
        Self { pid, start_ticks: start_ns / (1_000_000_000 / TICKS_PER_SECOND) }
    }

    /// The name of the process that every source gives alike: hexadecimal digits of the boot id's
    /// first 32 bits, the pid, and the start in clock ticks.
    #[must_use]
    pub fn entity_id(self, boot: u32) -> EntityId {
        let ticks = hexadecimal(self.start_ticks.to_be_bytes());
        let zeros = (self.start_ticks.leading_zeros() as usize / 4).min(15);
        let mut digits = [0; 32];
        digits[..8].copy_from_slice(hexadecimal(boot.to_be_bytes()).as_flattened());
        digits[8..16].copy_from_slice(hexadecimal(self.pid.to_be_bytes()).as_flattened());
        // All sixteen places, whatever stands in the last ones: copies of a known length are moves.
        let mut padded = [0; 32];
        padded[..16].copy_from_slice(ticks.as_flattened());
        digits[16..].copy_from_slice(&padded[zeros..zeros + 16]);
        EntityId { digits, length: 32 - zeros }
    }
}

/// The two digits of each byte.
fn hexadecimal<const N: usize>(bytes: [u8; N]) -> [[u8; 2]; N] {
    bytes.map(|byte| HEXADECIMAL[usize::from(byte)])
}

/// Those of every byte.
const HEXADECIMAL: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut all = [[0; 2]; 256];
    let mut byte = 0;
    while byte < all.len() {
        all[byte] = [digits[byte / 16], digits[byte % 16]];
        byte += 1;
    }
    all
};

/// The name of a process, as text that needs no allocation: each event has two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityId {
    digits: [u8; 32],
    length: usize,
}

impl EntityId {
    /// The hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The same, as ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[..self.length]
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What a process runs: the state that an exec replaces whole.
///
/// Bytes are as the kernel has them: any encoding, no guarantee of UTF-8. What could not be read is
/// `None`, and [`unknown`](Image::unknown) says why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// The executable file, as the container's root sees it.
    pub executable: Option<Box<[u8]>>,
    /// The arguments as far as they were captured.
    pub args: Option<Args>,
    /// The working directory, as the container's root sees it.
    pub working_directory: Option<Box<[u8]>>,
    /// The task's name, at most 15 bytes.
    pub comm: Option<Box<[u8]>>,
    /// The effective user, as the host counts.
    pub uid: Option<u32>,
    /// The effective group, as the host counts.
    pub gid: Option<u32>,
    /// Why something of the above is missing.
    pub unknown: Option<Unknown>,
}

/// The arguments of an exec.
#[derive(Clone, PartialEq, Eq)]
pub struct Args {
    /// What was captured, each argument ended by a NUL but perhaps the last one of a cut.
    pub bytes: Box<[u8]>,
    /// How many bytes the process really has, NULs included.
    pub total_bytes: u64,
    /// How many arguments the process really has.
    pub count: u32,
    /// Whether redaction has replaced a part of `bytes`.
    pub redacted: bool,
}

impl Args {
    /// The arguments of a complete capture.
    #[must_use]
    pub fn from_nul_separated(bytes: &[u8]) -> Self {
        let count = bytes.split_inclusive(|byte| *byte == 0).count();
        Self {
            bytes: bytes.into(),
            total_bytes: bytes.len() as u64,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            redacted: false,
        }
    }

    /// Each argument; empty ones too. The last may be cut: see [`truncated`](Self::truncated).
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes
            .split_inclusive(|byte| *byte == 0)
            .map(|arg| arg.strip_suffix(&[0]).unwrap_or(arg))
    }

    /// Whether the process has more than was captured. Redaction changes lengths, so it is asked of
    /// the number of arguments too.
    #[must_use]
    pub fn truncated(&self) -> bool {
        (!self.redacted && (self.bytes.len() as u64) < self.total_bytes)
            || self.bytes.last().is_some_and(|byte| *byte != 0)
            || (self.iter().count() as u64) < u64::from(self.count)
    }
}

impl fmt::Debug for Args {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter().map(String::from_utf8_lossy)).finish()
    }
}

/// Why a part of an [`Image`] is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unknown {
    /// The process had ended before it could be looked at.
    Gone,
    /// The process had begun to run something else.
    Replaced,
    /// The kernel refused.
    Denied,
    /// The memory could not be read.
    Faulted,
    /// The source cannot see it.
    NotSeen,
}

impl Unknown {
    /// The reason, as events tell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Replaced => "replaced",
            Self::Denied => "denied",
            Self::Faulted => "faulted",
            Self::NotSeen => "not_seen",
        }
    }
}

/// How a process came to be in its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// The container's first process.
    Init,
    /// Asked for by an Exec request.
    Exec,
    /// A child of a process of the container.
    Descendant,
    /// Came from outside without containerd: nsenter, a debug container.
    Injected,
}

impl Origin {
    /// The word that events, filters and annotations use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Exec => "exec",
            Self::Descendant => "descendant",
            Self::Injected => "injected",
        }
    }
}

/// A process as it stood at one of its events. An exec makes a new one with the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Who.
    pub key: ProcessKey,
    /// Its pid in its own pid namespace.
    pub vpid: Option<i32>,
    /// Its parent at that event, as the host counts; 0 where it is not known.
    pub parent_pid: i32,
    /// The parent, where the tracker knows it.
    pub parent: Option<Parent>,
    /// What it runs. A forked child has its parent's.
    pub image: Arc<Image>,
    /// How it came here.
    pub origin: Origin,
    /// The exec that it belongs to, itself or by descent.
    pub exec_id: Option<Arc<str>>,
    /// Its cgroup as a path under the hierarchy's root, where it is not the container's own.
    pub cgroup: Option<Arc<str>>,
}

/// What is told of a parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Who.
    pub key: ProcessKey,
    /// What it ran when the child's event happened.
    pub image: Arc<Image>,
}

#[cfg(test)]
mod tests;
