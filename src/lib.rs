//! lookout: a containerd runtime shim that runs containers through an OCI runtime and keeps watch
//! over them.
//!
//! The modules in the order in which a request flows; each names only those after it. `task` and
//! `observe` never name each other: what is between them is in `model`. `cli`, `daemon` and
//! `client` need the feature `cli`.
//!
//! ```text
//! cli       the command `lookout`: what was typed, asked of the shims or of the daemon, shown
//! daemon    one process a node or a user: keeps the registry, follows the shims
//! client    what talks to shims and to the daemon: finds them, follows them, writes JSON
//! shim      one process: arguments, bootstrap, serving, the delete verb
//! task      containerd's Task service: which container, what may it do, what comes next
//! bundle    the files of a container that outlive the shim
//! runc      the OCI runtime's command line, its log, its errors
//! reaper    every child of the shim: spawned here, waited for here
//! observe   the watch: every process of a container, told with what it is
//! publish   events to containerd: a task's are ordered, journaled, retried; others may be dropped
//! config    the settings of the host and of one container, and who set them
//! accept    who may connect
//! log       one line a record, which nothing that a container said can forge
//! registration  the files that say which shims live
//! api       our own messages and services, generated from `proto/`
//! sys       the only unsafe code
//! clock     the kernel's clocks, in nanoseconds
//! wire      protobuf's encoding, where generated messages are too slow
//! model     words that all of them share; no I/O
//! ```
//!
//! The whole picture is in `docs/architecture.md`.

pub mod api;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod client;
pub mod clock;
pub mod config;
#[cfg(feature = "cli")]
pub mod daemon;
pub mod model;
pub mod observe;
pub mod registration;
#[expect(
    unsafe_code,
    reason = "system calls that no crate wraps; nothing else in the crate is unsafe"
)]
pub mod sys;
pub mod wire;

// The seam: the shim, and whatever else serves or runs containers, is Linux's. What else a system
// must have is in `observe::elsewhere` and `daemon::elsewhere`, as answers of one that has nothing
// yet.
#[cfg(target_os = "linux")]
pub mod accept;
#[cfg(target_os = "linux")]
pub mod bundle;
#[cfg(target_os = "linux")]
pub mod log;
#[cfg(target_os = "linux")]
pub mod publish;
#[cfg(target_os = "linux")]
pub mod reaper;
#[cfg(target_os = "linux")]
pub mod runc;
#[cfg(target_os = "linux")]
pub mod shim;
#[cfg(target_os = "linux")]
pub mod task;
