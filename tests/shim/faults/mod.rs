//! Faults that other shims had and ours must not have. Numbers are those of public issues.

mod calls;
mod exits;
mod files;
mod flood;
mod hostile;
mod orphans;
mod races;
mod requests;
mod root;
mod runtimes;
mod streams;
