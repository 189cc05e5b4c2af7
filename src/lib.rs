//! lookout: a containerd runtime shim that runs containers through an OCI runtime and keeps watch
//! over them.
//!
//! The modules in the order in which a request flows; each names only those after it:
//!
//! ```text
//! shim      one process: arguments, bootstrap, serving, the delete verb
//! task      containerd's Task service: which container, what may it do, what comes next
//! bundle    the files of a container that outlive the shim
//! runc      the OCI runtime's command line, its log, its errors
//! reaper    every child of the shim: spawned here, waited for here
//! publish   task events to containerd: ordered, journaled, retried
//! sys       the only unsafe code
//! model     words that all of them share; no I/O
//! ```
//!
//! The whole picture is in `docs/architecture.md`.

pub mod bundle;
pub mod model;
pub mod publish;
pub mod reaper;
pub mod runc;
pub mod shim;
#[expect(unsafe_code, reason = "system calls that no crate wraps; nothing else in the crate is unsafe")]
pub mod sys;
pub mod task;
