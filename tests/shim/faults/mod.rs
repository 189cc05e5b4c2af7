//! What went wrong in other shims, and must not here. Numbers are those of public issues.

mod exits;
mod flood;
mod hostile;
mod orphans;
mod races;
mod root;
mod runtimes;
mod streams;
