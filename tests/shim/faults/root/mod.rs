//! Faults that need root to be caused or observed.

mod descriptors;
mod disks;
mod orphans;
mod threads;
