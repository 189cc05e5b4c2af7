//! Which group of processes a folder is: there are none.

use std::{collections::HashSet, io, path::Path};

use super::unsupported;
use crate::observe::record::TargetId;

/// # Errors
///
/// Always.
pub(in crate::observe) fn id_of(_directory: &Path) -> io::Result<TargetId> {
    Err(unsupported("this system has no cgroups"))
}

pub(in crate::observe) fn ids_below(_directory: &Path) -> HashSet<u64> {
    HashSet::new()
}

pub(in crate::observe) fn name_below(_directory: &Path, _id: u64) -> Option<String> {
    None
}

/// A number that no other call of this process makes of another `n`; no source here shares its
/// targets.
pub(in crate::observe) fn unique(n: u64) -> u64 {
    n
}
