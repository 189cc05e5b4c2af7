//! lookout: a containerd runtime shim that runs containers through an OCI runtime and keeps watch
//! over them.
//!
//! The modules from the top down; each names only modules below it. `task` and `observe` never
//! name each other: what is between them is in `model`. `cli`, `daemon`, `client` and `registry`
//! need the feature `cli`; the modules marked with `L` exist on Linux only.
//!
//! ```text
//! cli           the command `lookout`: what was typed, asked of the shims or the daemon, printed
//! daemon        one process a node or a user: serves the registry, follows the shims
//! client        finds shims and the daemon, follows their events, writes JSON
//! registry      processes by id, name, tag and group, on kernel identity
//! shim        L one process: arguments, bootstrap, serving, the delete verb
//! task        L containerd's Task service: which container, what is allowed, what comes next
//! observe       every process of a container, with its arguments, identity and attribution
//! bundle      L the files of a container that outlive the shim
//! runc        L the OCI runtime's command line, its log, its errors
//! reaper      L spawns every child of the shim and waits for every child
//! publish     L events to containerd: a task's are ordered, journaled, retried; others may be dropped
//! registration  the files by which living shims are found
//! config        the settings of the host and of one container, and where each comes from
//! accept      L which connections a server accepts
//! log         L one line for each record, which a container cannot forge
//! platform      what the portable modules ask of the operating system
//! linux       L facts of the kernel's files, typed: one parser for each format
//! sys           the only unsafe code; system calls of Linux but for one
//! api           our own messages and services, generated from `proto/`
//! wire          protobuf's encoding, where generated messages are too slow
//! clock         the kernel's clocks, in nanoseconds
//! model         words that all modules share; no I/O
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
pub mod platform;
pub mod registration;
#[cfg(feature = "cli")]
pub mod registry;
#[expect(unsafe_code, reason = "system calls that no crate wraps")]
pub mod sys;
pub mod wire;

// The shim, and what it is made of, exists on Linux only. The rest of the crate asks the operating
// system through `platform`.
cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        pub mod accept;
        pub mod bundle;
        pub mod linux;
        pub mod log;
        pub mod publish;
        pub mod reaper;
        pub mod runc;
        pub mod shim;
        pub mod task;
    }
}
