//! `lookout top` on a terminal: the processes of the node's containers, and the registered ones.
//!
//! ```text
//!  keyboard ───┐
//!  shims ──────┤
//!  registered ─┼─► message ─► state ─► tree ─► view ─► screen
//!  usage ──────┘                │
//!                               └─► effect: quit, suspend, send a signal
//! ```
//!
//! [`state`], [`data`], [`tree`], [`dialog`] and [`view`] are pure: no terminal, no I/O, no clock.
//! [`session`] is the loop that gives messages to the state, draws it, and carries out effects.

mod backend;
mod data;
mod dialog;
mod keyboard;
mod layout;
mod registered;
#[cfg(test)]
mod sample;
mod screen;
mod session;
mod shims;
mod state;
mod tree;
mod usage;
mod view;

pub(in crate::cli) use session::run;
