//! Words that every module shares. No I/O, no clock, no async.

mod chain;
mod exit;
mod spec;

pub use chain::chain;
pub use exit::Exit;
pub use spec::Spec;
