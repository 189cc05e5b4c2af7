//! The reasons for which a request is refused.

/// Why a request was refused. A refused request has changed nothing, with one exception: before
/// [`Signal`](Self::Signal) is returned, the signal may have reached other processes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The process has an entry already.
    #[error("process {pid} is registered already, as entry {id}")]
    Duplicate {
        /// The pid of the process.
        pid: i32,
        /// The id of the entry that the process has.
        id: u64,
    },
    /// No process has this pid.
    #[error("no process {pid}")]
    NoProcess {
        /// The pid that was asked for.
        pid: i32,
    },
    /// The process that was to be registered is a zombie.
    #[error("process {pid} has ended")]
    Ended {
        /// The pid of the process.
        pid: i32,
    },
    /// No pidfd of the process could be opened.
    #[error("failed to open a pidfd of process {pid}")]
    Unwatchable {
        /// The pid of the process.
        pid: i32,
        /// The error of pidfd_open(2).
        #[source]
        source: std::io::Error,
    },
    /// The entry's process has ended.
    #[error(
        "entry {id}: process {pid} has ended{}",
        if *is_reused { ", and another process has its pid now" } else { "" }
    )]
    Dead {
        /// The id of the entry.
        id: u64,
        /// The pid of the entry's process.
        pid: i32,
        /// Whether another process has this pid now.
        is_reused: bool,
    },
    /// The process belongs to another user than the daemon, which is not root.
    #[error("process {pid} is another user's process")]
    OtherUser {
        /// The pid of the process.
        pid: i32,
    },
    /// No entry has this id.
    #[error("no entry {id}")]
    NoEntry {
        /// The id that was asked for.
        id: u64,
    },
    /// No entry meets the conditions of the selector.
    #[error("no entry matches")]
    NoMatch,
    /// Several entries meet the conditions of the selector, and the request does not allow that.
    #[error(
        "{count} entries match ({}{}): give their ids, or --all",
        first.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
        if *count > first.len() { ", …" } else { "" }
    )]
    SeveralMatch {
        /// How many entries match.
        count: usize,
        /// The ids of the first five entries that match.
        first: Vec<u64>,
    },
    /// The request has no entries or no change; or it both removes and changes entries.
    #[error("nothing to do: say which entries to change, and give one change")]
    NothingToDo,
    /// A reset was not confirmed.
    #[error("the reset is not confirmed: the confirmation must be RESET")]
    Unconfirmed,
    /// A text is not allowed as a name, a tag or a group.
    #[error(
        "{text:?} is not a valid {what}: it must have 1 to {limit} bytes, no control characters, \
         and no blanks at its ends"
    )]
    InvalidLabel {
        /// `name`, `tag` or `group`.
        what: &'static str,
        /// The text that is not allowed, cut at the limit.
        text: String,
        /// The most bytes that are allowed.
        limit: usize,
    },
    /// An entry would have too many tags or groups.
    #[error("an entry can have at most {limit} tags and {limit} groups")]
    TooMany {
        /// The id of the entry; 0 for a new entry.
        id: u64,
        /// The most tags, and the most groups.
        limit: usize,
    },
    /// The command line in an entry of a snapshot is too long.
    #[error("the command line of process {pid} is longer than {limit} bytes")]
    TooLong {
        /// The pid of the process.
        pid: i32,
        /// The most bytes that a command line may have.
        limit: usize,
    },
    /// The registry has no space for another entry.
    #[error("the registry is full: it has {limit} entries, remove some")]
    Full {
        /// The most entries that the registry may have.
        limit: usize,
    },
    /// There is no signal with this number.
    #[error("{number} is not a signal")]
    NoSignal {
        /// The number that was given as a signal.
        number: i32,
    },
    /// The kernel refused a signal.
    #[error("failed to signal process {pid}")]
    Signal {
        /// The pid of the process.
        pid: i32,
        /// The error of pidfd_send_signal(2).
        #[source]
        source: std::io::Error,
    },
    /// The change could not be written to the registry's file.
    #[error("failed to write {}", path.display())]
    Unsaved {
        /// The file that could not be written.
        path: std::path::PathBuf,
        /// The error of the failed system call.
        #[source]
        source: std::io::Error,
    },
    /// Too many requests wait (`busy`), or the registry's thread has ended (`ending`).
    #[error("the daemon is {0}")]
    Busy(&'static str),
}

/// The kind of a refusal, which decides the status code of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalKind {
    /// There is no such process or entry.
    NotFound,
    /// The request is invalid.
    Usage,
    /// The process is registered already.
    Exists,
    /// The request does not fit the current state of the entries or processes.
    State,
    /// The caller or this daemon has no permission for the request.
    Denied,
    /// A limit is reached, or the disk is full.
    Capacity,
    /// The daemon cannot answer now; the client may try again.
    Unavailable,
}

impl Refusal {
    /// The kind of this refusal.
    #[must_use]
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::NoProcess { .. } | Self::NoEntry { .. } | Self::NoMatch => RefusalKind::NotFound,
            Self::NothingToDo
            | Self::Unconfirmed
            | Self::InvalidLabel { .. }
            | Self::NoSignal { .. } => RefusalKind::Usage,
            Self::Duplicate { .. } => RefusalKind::Exists,
            Self::SeveralMatch { .. } | Self::Ended { .. } | Self::Dead { .. } => {
                RefusalKind::State
            }
            Self::OtherUser { .. } | Self::Signal { .. } => RefusalKind::Denied,
            Self::Unwatchable { .. }
            | Self::TooLong { .. }
            | Self::TooMany { .. }
            | Self::Full { .. }
            | Self::Unsaved { .. } => RefusalKind::Capacity,
            Self::Busy(_) => RefusalKind::Unavailable,
        }
    }
}
