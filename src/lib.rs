//! lookout: a containerd runtime shim that runs containers through an OCI runtime and keeps watch
//! over them.
//!
//! The modules, from top to bottom. A module names only modules below it. `task` and `observe`
//! never name each other: their interface is in `model`. `cli`, `client` and `registry` need the
//! feature `cli`, `daemon` needs the feature `daemon`; the modules marked with `L` exist on Linux
//! only.
//!
//! ```text
//! fuzzing     L the targets of the fuzzer; only in tests and with the feature `fuzzing`
//! cli           the command `lookout`: parses arguments, asks shims or the daemon, prints answers
//! daemon        one process for each node or user: serves the registry, follows the shims
//! client        finds shims and the daemon, follows their events, writes JSON
//! registry      registered processes by id, name, tag and group; identified by pid, start, boot
//! shim        L the shim's process: its arguments, bootstrap, serving, the verb `delete`
//! task        L containerd's Task service, and the life cycle of each container and exec
//! observe       observes every process of a container: arguments, identity, attribution
//! bundle      L the files of a container that outlive the shim
//! runc        L calls the OCI runtime: its command line, its log, its errors
//! reaper      L spawns every child of the shim and waits for every child
//! publish     L sends events to containerd; task events are ordered, kept and retried, other
//!               events may be dropped
//! workers     L the threads for calls that may block, made before they are needed
//! registration  the files by which living shims are found
//! config        the settings of the host and of one container, and where each comes from
//! accept      L accepts connections, only from root and from the user of this process
//! log         L writes one line for each log record; text of a container cannot forge a line
//! platform      what the portable modules ask of the operating system
//! linux       L parsers of the kernel's files, one for each format, with typed results
//! sys           the only unsafe code: system calls, all but one of them of Linux
//! api           our own messages and services, generated from `proto/`
//! wire          protobuf's encoding, where generated messages are too slow
//! token_bucket  limits a rate
//! clock         the kernel's clocks, in nanoseconds
//! model         types that all modules share; no I/O
//! ```
//!
//! The whole picture is in `docs/architecture.md`.
//!
//! # As a library
//!
//! A program that needs no containerd uses three types of [`observe`], each with an example:
//! [`Detector`](observe::Detector) observes process trees and cgroups,
//! [`PortWatcher`](observe::PortWatcher) the ports of a process tree, and
//! [`ObserverConfig`](observe::ObserverConfig) the start and the end of one child.
//!
//! ```
//! use lookout::observe::{Detector, Flags, source::Target};
//!
//! let (detector, events) = Detector::new()?;
//! detector.watch(Target::Tree { pid: std::process::id().cast_signed() }, Flags::ALL)?;
//! for event in events.processes.try_iter() {
//!     println!("{}: {:?}", event.process.key.pid, event.process.image);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod api;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod client;
pub mod clock;
pub mod config;
#[cfg(feature = "daemon")]
pub mod daemon;
pub mod model;
pub mod observe;
pub mod platform;
pub mod registration;
#[cfg(feature = "cli")]
pub mod registry;
#[expect(unsafe_code, reason = "system calls that no crate wraps")]
pub mod sys;
pub mod token_bucket;
pub mod wire;

// The shim, and what it is made of, exists on Linux only. The rest of the crate asks the operating
// system through `platform`.
cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        pub mod accept;
        pub mod bundle;
        #[cfg(any(test, feature = "fuzzing"))]
        #[doc(hidden)]
        pub mod fuzzing;
        pub mod linux;
        pub mod log;
        pub mod publish;
        pub mod reaper;
        pub mod runc;
        pub mod shim;
        pub mod task;
        pub mod workers;
    }
}
