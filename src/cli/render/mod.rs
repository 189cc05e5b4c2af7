//! Formats what shims and the daemon answer, as text or JSON. This module is pure: its functions
//! take an answer and return a string.

pub(super) mod capabilities;
pub(super) mod config;
#[cfg(feature = "daemon")]
pub(super) mod entries;
pub(super) mod events;
pub(super) mod execs;
pub(super) mod exits;
pub(super) mod gap;
pub(super) mod inspect;
pub(super) mod names;
pub(super) mod ports;
pub(super) mod processes;
pub(super) mod rows;
pub(super) mod table;
#[cfg(test)]
mod tests;
pub(super) mod time;
pub(super) mod tree;
#[cfg(feature = "daemon")]
pub(super) mod usage;
