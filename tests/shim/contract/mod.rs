//! Tests of what containerd relies on.

mod bootstrap;
mod checkpoint;
mod children;
mod delete;
mod events;
mod execs;
mod holding;
mod info;
mod leaving;
mod legacy;
mod lifecycle;
mod log;
mod options;
mod refusals;
mod root;
mod states;
mod stdio;
mod waiting;
