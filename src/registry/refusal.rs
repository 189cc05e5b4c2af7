//! Why something is not done.

/// What was asked is not done, and nothing of it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The process has an entry.
    #[error("process {pid} is registered already, as entry {id}")]
    Duplicate {
        /// The process.
        pid: i32,
        /// Its entry.
        id: u64,
    },
    /// Nobody has this pid.
    #[error("no process {pid}")]
    NoProcess {
        /// The pid.
        pid: i32,
    },
    /// It is there and dead.
    #[error("process {pid} has ended")]
    Ended {
        /// The process.
        pid: i32,
    },
    /// No descriptor of it can be had.
    #[error("failed to watch process {pid}")]
    Unwatchable {
        /// The process.
        pid: i32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The entry's process is gone.
    #[error("entry {id}: process {pid} has ended{}", if *is_reused { ", and its pid is another's by now" } else { "" })]
    Dead {
        /// The entry.
        id: u64,
        /// The process that it had.
        pid: i32,
        /// Whether somebody else has its pid.
        is_reused: bool,
    },
    /// A user's daemon serves that user.
    #[error("process {pid} is another user's")]
    Foreign {
        /// The process.
        pid: i32,
    },
    /// No entry of this id.
    #[error("no entry {id}")]
    NoEntry {
        /// The id.
        id: u64,
    },
    /// No entry like that.
    #[error("no entry matches")]
    NoMatch,
    /// More than was meant, perhaps.
    #[error(
        "{count} entries match ({}{}): say --all, or which",
        first.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
        if *count > first.len() { ", …" } else { "" }
    )]
    Several {
        /// How many.
        count: usize,
        /// Some of them.
        first: Vec<u64>,
    },
    /// It says not what, or not to which entries.
    #[error("nothing is asked for: say which entries, and what")]
    Nothing,
    /// Not confirmed.
    #[error("not confirmed: say RESET")]
    Unconfirmed,
    /// A name, a tag or a group.
    #[error(
        "{text:?} is no {what}: it must have 1 to {limit} bytes, no control characters, no blanks at its ends"
    )]
    Word {
        /// What it was to be.
        what: &'static str,
        /// What was given.
        text: String,
        /// The most bytes.
        limit: usize,
    },
    /// Of tags or groups.
    #[error("more than {limit} tags or groups of one entry")]
    TooMany {
        /// Whose; 0 for a new one.
        id: u64,
        /// The most.
        limit: usize,
    },
    /// Of a snapshot's command line.
    #[error("the command line of process {pid} is longer than {limit} bytes")]
    TooLong {
        /// The process.
        pid: i32,
        /// The most.
        limit: usize,
    },
    /// No room for another entry.
    #[error("there are {limit} entries: remove some")]
    Full {
        /// The most.
        limit: usize,
    },
    /// A number that is no signal.
    #[error("{number} is no signal")]
    NoSignal {
        /// The number.
        number: i32,
    },
    /// The kernel refuses.
    #[error("failed to signal process {pid}")]
    Signal {
        /// Whom.
        pid: i32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The disk refuses.
    #[error("failed to write {}", path.display())]
    Unsaved {
        /// Where.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The registry has ended, or has too much to do.
    #[error("the daemon is {0}")]
    Busy(&'static str),
}

/// What kind of refusal it is, for a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// What was named is not there.
    NotFound,
    /// What was asked makes no sense.
    Usage,
    /// It is there already.
    Exists,
    /// Not as things are now.
    State,
    /// Not this caller, or not this daemon.
    Denied,
    /// No room.
    Room,
    /// Not now.
    Later,
}

impl Refusal {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoProcess { .. } | Self::NoEntry { .. } | Self::NoMatch => Kind::NotFound,
            Self::Nothing | Self::Unconfirmed | Self::Word { .. } | Self::NoSignal { .. } => {
                Kind::Usage
            }
            Self::Duplicate { .. } => Kind::Exists,
            Self::Several { .. } | Self::Ended { .. } | Self::Dead { .. } => Kind::State,
            Self::Foreign { .. } | Self::Signal { .. } => Kind::Denied,
            Self::Unwatchable { .. }
            | Self::TooLong { .. }
            | Self::TooMany { .. }
            | Self::Full { .. }
            | Self::Unsaved { .. } => Kind::Room,
            Self::Busy(_) => Kind::Later,
        }
    }
}
