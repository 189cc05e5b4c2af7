//! What the rest of the watch asks of the system, answered as by one that tells nothing yet.
//!
//! ```text
//!  proc     who has a pid, what it runs, who is reaped, who holds what
//!  place    which group of processes a folder is
//!  diag     which sockets there are
//!  node     what can be observed here
//!  setup    which sources there are
//! ```
//!
//! A system that is to be watched gets a source beside
//! [`MockSource`](super::source::mock::MockSource) (ETW's, DTrace's), modules of its own in the
//! place of these, and its name in `observe/mod.rs` beside Linux's. Until then nothing here invents
//! an answer: whatever can fail does, with [`Unsupported`](std::io::ErrorKind::Unsupported), and
//! nobody is found.

pub(super) mod diag;
pub mod node;
pub(super) mod place;
pub mod proc;
pub(super) mod setup;

/// That the system is not asked.
fn unsupported(what: &'static str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::Unsupported, what)
}
