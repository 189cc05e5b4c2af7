//! An observed process: its identity, what it runs, and its origin.

use std::{cmp::Ordering, fmt, num::NonZeroU64, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Charge, Text, printable};

/// Clock ticks per second in [`StartTicks`]: `USER_HZ`, which is 100 on every architecture that has
/// containers.
pub const TICKS_PER_SECOND: u64 = 100;

/// The identity of a process within one boot. A pid is reused; a pid with its start time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessKey {
    /// The thread group's id in the host's pid namespace.
    pub pid: i32,
    /// When the process started; `None` if the start is not known.
    pub start: Option<StartTicks>,
}

/// The start time of a process, in clock ticks since boot: field 22 of `/proc/PID/stat`.
///
/// It is never 0, so that an `Option` of it needs no more memory. A process that started within the
/// first tick after boot, before any container, has no known start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StartTicks(NonZeroU64);

impl StartTicks {
    /// Makes a start time from clock ticks; `None` for 0, which means that the start is not known.
    #[must_use]
    pub fn new(ticks: u64) -> Option<Self> {
        NonZeroU64::new(ticks).map(Self)
    }

    /// The start time as a number of clock ticks.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl ProcessKey {
    /// Makes the key from a start time in clock ticks; 0 if the start is not known.
    #[must_use]
    pub fn new(pid: i32, start_ticks: u64) -> Self {
        Self { pid, start: StartTicks::new(start_ticks) }
    }

    /// Makes the key from a start time in nanoseconds since boot (`task_struct.start_boottime`),
    /// which is rounded down to clock ticks as the kernel's `nsec_to_clock_t` does for `/proc`.
    #[must_use]
    pub fn from_boottime(pid: i32, start_ns: u64) -> Self {
        Self::new(pid, start_ns / (1_000_000_000 / TICKS_PER_SECOND))
    }

    /// The key of an [entity id](Self::entity_id); `None` if the text is none.
    #[must_use]
    pub fn of_entity_id(entity_id: &str) -> Option<Self> {
        // `from_str_radix` alone would accept a sign.
        let is_hexadecimal = entity_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hexadecimal || entity_id.len() > 32 {
            return None;
        }
        let pid = u32::from_str_radix(entity_id.get(8..16)?, 16).ok()?;
        let start_ticks = u64::from_str_radix(entity_id.get(16..)?, 16).ok()?;
        Some(Self::new(i32::try_from(pid).ok()?, start_ticks))
    }

    /// The start time in clock ticks, in the form of messages and files: 0 if it is not known.
    #[must_use]
    pub fn start_ticks(self) -> u64 {
        self.start.map_or(0, StartTicks::get)
    }

    /// Whether both keys can be of one process: the pids are equal, and the starts are not known to
    /// differ.
    #[must_use]
    pub fn may_be_same(self, other: Self) -> bool {
        self.pid == other.pid && self.compare_starts(other).is_none_or(Ordering::is_eq)
    }

    /// Which of two processes started first; `None` unless both starts are known.
    #[must_use]
    pub fn compare_starts(self, other: Self) -> Option<Ordering> {
        Some(self.start?.cmp(&other.start?))
    }

    /// The process's entity id, which is the same for every source: the hexadecimal digits of the
    /// boot id's first 32 bits, of the pid, and of the start time in clock ticks.
    #[must_use]
    pub fn entity_id(self, boot: u32) -> EntityId {
        let start_ticks = self.start_ticks();
        let ticks = hexadecimal_digits(start_ticks.to_be_bytes());
        let zeros = (start_ticks.leading_zeros() as usize / 4).min(15);
        let mut digits = [0; 32];
        digits[..8].copy_from_slice(hexadecimal_digits(boot.to_be_bytes()).as_flattened());
        digits[8..16].copy_from_slice(hexadecimal_digits(self.pid.to_be_bytes()).as_flattened());
        // Sixteen digits are always copied, of which the last may be padding: a copy of constant
        // length compiles to moves, without a call of memcpy.
        let mut padded = [0; 32];
        padded[..16].copy_from_slice(ticks.as_flattened());
        digits[16..].copy_from_slice(&padded[zeros..zeros + 16]);
        EntityId { digits, length: 32 - zeros }
    }
}

/// The two hexadecimal digits of each byte.
fn hexadecimal_digits<const N: usize>(bytes: [u8; N]) -> [[u8; 2]; N] {
    bytes.map(|byte| HEXADECIMAL_DIGITS[usize::from(byte)])
}

/// The two hexadecimal digits of every byte value.
const HEXADECIMAL_DIGITS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut all = [[0; 2]; 256];
    let mut byte = 0;
    while byte < all.len() {
        all[byte] = [digits[byte / 16], digits[byte % 16]];
        byte += 1;
    }
    all
};

/// The entity id of a process, in a fixed buffer, so that it is built without an allocation: each
/// event has two entity ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityId {
    digits: [u8; 32],
    length: usize,
}

impl EntityId {
    /// The 17 to 32 hexadecimal digits of the entity id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The hexadecimal digits of the entity id, as ASCII.
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

/// What a process runs: everything that an exec replaces. An image is made with [`Default`] and
/// then filled.
///
/// A part that could not be read is `None`, and [`unknown`](Image::unknown) has the reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The path of the executable, relative to the root directory of the process.
    pub executable: Option<Text>,
    /// Whether the executable has no name in a directory: its file was removed, or never had one
    /// (memfd_create(2)). Then the path is the last one, or the name of the memfd.
    pub executable_deleted: bool,
    /// The arguments, as far as they were captured.
    pub args: Option<Args>,
    /// The working directory, relative to the root directory of the process.
    pub working_directory: Option<Text>,
    /// The kernel's name of the process (`comm`), at most 15 bytes.
    pub comm: Option<Text>,
    /// The effective user id in the initial user namespace.
    pub uid: Option<u32>,
    /// The effective group id in the initial user namespace.
    pub gid: Option<u32>,
    /// The address at which the exec has put the stack; `None` if it could not be read. The kernel
    /// chooses it anew at each exec, and a process cannot change it without privileges. So it shows
    /// whether two images are of one exec.
    pub stack: Option<NonZeroU64>,
    /// The bytes of a large image, while they count against the limit of its container.
    #[serde(skip)]
    pub(crate) charge: Option<Box<Charge>>,
    /// The reason why a part is missing; `None` if nothing is missing.
    pub unknown: Option<UnknownReason>,
}

/// The arguments of an exec.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// The captured bytes. Each argument ends with a NUL, except a last argument that was cut.
    pub bytes: Box<[u8]>,
    /// The length of all arguments of the process in bytes, NULs included.
    pub total_bytes: u64,
    /// The number of all arguments of the process.
    pub count: u32,
    /// Whether redaction has replaced a part of `bytes`.
    pub redacted: bool,
}

impl Args {
    /// Makes the arguments from bytes that have all arguments, each ended by a NUL.
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

    /// The captured arguments without their NULs, empty arguments included. The last argument may
    /// be cut: see [`truncated`](Self::truncated).
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes
            .split_inclusive(|byte| *byte == 0)
            .map(|arg| arg.strip_suffix(&[0]).unwrap_or(arg))
    }

    /// Whether the process has more arguments, or longer ones, than were captured. Redaction
    /// changes the length in bytes, so the number of arguments is compared too.
    #[must_use]
    pub fn truncated(&self) -> bool {
        (!self.redacted && (self.bytes.len() as u64) < self.total_bytes)
            || self.bytes.last().is_some_and(|byte| *byte != 0)
            || (self.iter().count() as u64) < u64::from(self.count)
    }
}

/// The arguments as a command line, which bash would parse into the same arguments. Safe to print
/// on a terminal.
///
/// ```
/// use lookout::model::Args;
///
/// let args = Args::from_nul_separated(b"sh\0-c\0exit 7\0");
/// assert_eq!(args.to_string(), "sh -c 'exit 7'");
/// ```
impl fmt::Display for Args {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&printable::command_line(self.iter()))
    }
}

impl fmt::Debug for Args {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter().map(String::from_utf8_lossy)).finish()
    }
}

/// The reason why a part of an [`Image`] is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum UnknownReason {
    /// The process had ended before its image could be read.
    Gone,
    /// The process had already replaced the image by another exec.
    Replaced,
    /// The kernel refused access to the process.
    Denied,
    /// The memory of the process could not be read.
    Faulted,
    /// The source does not provide this part.
    NotSeen,
    /// The arguments and paths of the processes of the container take more memory than its limit.
    /// The event of the exec had them.
    Dropped,
}

impl UnknownReason {
    /// The name of the reason in events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Replaced => "replaced",
            Self::Denied => "denied",
            Self::Faulted => "faulted",
            Self::NotSeen => "not_seen",
            Self::Dropped => "dropped",
        }
    }
}

/// How a process came into its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// The container's first process, which the runtime created.
    Init,
    /// A process that an Exec request started.
    Exec,
    /// A process that was forked, directly or not, by a process of the container.
    Descendant,
    /// A process that entered the container's cgroup or pid namespace from outside, and not by an
    /// exec of this container: by nsenter, or as a process of an unobserved container that shares
    /// the pid namespace.
    Injected,
    /// A process that the runtime started in the container beside the container's own programs: a
    /// hook of the OCI specification.
    Hook,
    /// A process of the container that came into it in a way that could not be found out.
    Unknown,
}

impl Origin {
    /// All origins of processes.
    pub const ALL: [Self; 6] =
        [Self::Init, Self::Exec, Self::Descendant, Self::Injected, Self::Hook, Self::Unknown];

    /// The name of the origin in events, filters and annotations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Exec => "exec",
            Self::Descendant => "descendant",
            Self::Injected => "injected",
            Self::Hook => "hook",
            Self::Unknown => "unknown",
        }
    }
}

/// The state of a process at one of its events. After an exec there is a new `Process` with the
/// same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The identity of the process.
    pub key: ProcessKey,
    /// The pid of the process in its own pid namespace; `None` if it is unknown.
    pub vpid: Option<i32>,
    /// The parent's pid at the event, in the host's pid namespace; `None` if it is unknown.
    pub parent_pid: Option<i32>,
    /// The parent of the process; `None` if the tracker does not know it.
    pub parent: Option<Parent>,
    /// The image that the process runs. A forked child runs its parent's image until its first
    /// exec.
    pub image: Arc<Image>,
    /// How the process came into its container.
    pub origin: Origin,
    /// The exec that started the process, or of which it is a descendant; `None` if there is no
    /// such exec.
    pub exec_id: Option<Arc<str>>,
    /// The cgroup of the process, as a path under the root of the hierarchy; `None` if it is the
    /// cgroup of the container.
    pub cgroup: Option<Arc<str>>,
}

/// The parent of a process, as events show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// The identity of the parent.
    pub key: ProcessKey,
    /// What the parent ran when the child's event happened.
    pub image: Arc<Image>,
}

#[cfg(test)]
mod tests;
