//! Where records come from.
//!
//! ```text
//!  bpf         the pinned programs and a ring of this shim's own
//!  connector   the node's one listener on the proc connector, and /proc at each exec
//!  poll        /proc, again and again
//!  mock        a script
//! ```
//!
//! A source belongs to one thread. It never decides what a record means, and it never blocks longer
//! than its documentation says.

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        pub mod bpf;
        pub mod connector;
        pub mod poll;
        pub mod probe;
    }
}
pub mod mock;
pub mod scan;

use std::{os::fd::BorrowedFd, path::PathBuf, time::Duration};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::record::{Record, TargetId};
use crate::model::Backend;

/// What is to be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A container: a cgroup with all that is below it.
    Cgroup {
        /// Its folder.
        path: PathBuf,
        /// The inode number of its pid namespace, where it has one that is not the host's: finds
        /// processes that came into the namespace and not into the cgroup.
        pid_namespace: Option<u32>,
    },
    /// A process with all that descends from it, alive already or not.
    Tree {
        /// The root.
        pid: i32,
    },
}

/// The kernel's own account of one target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KernelCounts {
    /// Records that the source's program began, before it reserved room.
    pub seen: u64,
    /// Those that found no room.
    pub lost: u64,
}

/// Connections of one target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// Established now.
    pub open: u64,
    /// `CLOCK_MONOTONIC` when one last came or went, in nanoseconds; 0 where none has.
    pub changed_ns: u64,
}

/// Something that sees processes.
pub trait Source: Send {
    /// Which.
    fn backend(&self) -> Backend;

    /// Begins to watch; what happens after this returns is seen. The id is the one that records
    /// will carry.
    ///
    /// # Errors
    ///
    /// [`SourceError`]: the target is not watched then.
    fn watch(&mut self, id: TargetId, target: &Target) -> Result<(), SourceError>;

    /// Whether it tells of sockets: where not, the kernel's list is asked for again and again.
    fn sees_ports(&self) -> bool {
        false
    }

    /// Whether it tells of UDP too. Where not, bound sockets are listed when somebody asks.
    fn sees_udp(&self) -> bool {
        false
    }

    /// Also tells of that target what listens in a network namespace, whatever cgroup made it.
    /// Answers whether it does: a source may see no ports, and a namespace is one target's, the
    /// first that asked.
    fn watch_network(&mut self, _id: TargetId, _namespace: u32) -> bool {
        false
    }

    /// The established TCP connections of a target, from the first call on; `None` where the source
    /// does not count.
    fn connections(&mut self, _id: TargetId) -> Option<Connections> {
        None
    }

    /// Tells by [`Record::Connected`], once, when the next is established. Answers whether it will.
    fn await_connection(&mut self, _id: TargetId) -> bool {
        false
    }

    /// Whether this cgroup is a target of anyone on the node, as far as the source can know.
    fn is_watched(&self, _cgroup: u64) -> bool {
        false
    }

    /// Ends it. Records that were made before may still come. Unknown targets are no error.
    fn unwatch(&mut self, id: TargetId);

    /// The kernel's account of a target, kept until [`unwatch`](Source::unwatch); `None` where the
    /// source does not count.
    fn counts(&self, id: TargetId) -> Option<KernelCounts>;

    /// Readable when there are records. `None`: ask again after [`interval`](Source::interval).
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// How long to wait between reads: for one with a descriptor how long records may be left to
    /// collect after it became readable, for one without how often to look.
    fn interval(&self) -> Duration;

    /// Lets records collect, for [`interval`](Source::interval) or until there is one that should
    /// not wait, or until one of `others` is readable. Answers whether it was the whole time: only
    /// then finding nothing means that there is nothing.
    fn rest(&mut self, others: &[BorrowedFd<'_>]) -> bool {
        !is_ready_within(others, self.interval())
    }

    /// Gives at most about `limit` records to `sink`, oldest first, and tells whether there may be
    /// more. Never waits.
    ///
    /// # Errors
    ///
    /// [`SourceError`]: this source is at its end.
    fn read(&mut self, limit: usize, sink: &mut dyn FnMut(Record)) -> Result<bool, SourceError>;
}

/// Waits for one of them to be readable; answers whether one was before the time was up.
fn is_ready_within(any: &[BorrowedFd<'_>], time: Duration) -> bool {
    let mut any: Vec<PollFd<'_>> =
        any.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    // A signal is the main thread's affair.
    poll(&mut any, PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX)).unwrap_or(1) > 0
}

/// Why a source cannot be had, or has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The kernel refused something.
    #[error("failed to {action}")]
    Kernel {
        /// What was tried: `load the programs`.
        action: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The node lacks what the source needs.
    #[error("{what} is missing")]
    Missing {
        /// What.
        what: &'static str,
    },
    /// All of something bounded is in use.
    #[error("all {limit} {what} are taken")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many there are.
        limit: u32,
    },
    /// The target is gone, or no such target can be watched.
    #[error("cannot watch {target}")]
    Target {
        /// Which.
        target: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The peer that the source needs has gone.
    #[error("{what} has gone")]
    Gone {
        /// Who.
        what: &'static str,
    },
    /// The source was closed by its user.
    #[error("the source is closed")]
    Closed,
}
