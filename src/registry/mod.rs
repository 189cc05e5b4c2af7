//! The registry of processes, which are selected by id, name, tag and group.
//!
//! ```text
//!  daemon::service ── job ──►  owner       one thread owns everything below
//!                               ├─ entries     pure: entries, indexes, which changes are allowed
//!                               ├─ store       one line for each command, synced before the answer
//!                               └─ liveness    a pidfd for each living process, one epoll
//!
//!  inspector   reads what is known of a process that is to be registered
//!  kill        sends signals by pidfd, to a process or to its whole tree
//! ```
//!
//! A process is identified by pid, start and boot, so a signal never reaches another process that
//! has been given the same pid. The pure part and the store are compiled on all systems. The
//! modules that need pidfds or `/proc` exist on Linux only.

mod change;
pub mod entries;
pub mod entry;
mod refusal;
mod select;
pub mod store;

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        pub mod inspector;
        pub mod kill;
        pub mod liveness;
        pub mod owner;
    }
}

pub use change::{Change, EntryEdit};
pub use entries::{NewEntry, Registry};
pub use refusal::{Refusal, RefusalKind};
pub use select::Selector;
