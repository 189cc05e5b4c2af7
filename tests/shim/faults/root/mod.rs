//! Faults that take root to make or to see.

mod descriptors;
mod disks;
