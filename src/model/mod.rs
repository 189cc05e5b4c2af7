//! Words that every module shares. No I/O, no clock, no async.

mod exit;
mod spec;

pub use exit::Exit;
pub use spec::Spec;
