//! Cgroups: this system has none.

use std::{collections::HashSet, io, path::Path};

use super::unsupported;

const NO_CGROUPS: &str = "this system has no cgroups";

/// How many members a scan can have.
pub(crate) const MEMBERS_LIMIT: usize = 32_768;

/// # Errors
///
/// `Unsupported`, always.
pub fn id(_directory: &Path) -> io::Result<u64> {
    Err(unsupported(NO_CGROUPS))
}

/// # Errors
///
/// `Unsupported`, always.
pub fn members_by_cgroup(_cgroup: &Path) -> io::Result<Vec<(i32, Option<u64>)>> {
    Err(unsupported(NO_CGROUPS))
}

/// Always empty.
#[must_use]
pub fn ids_below(_directory: &Path) -> HashSet<u64> {
    HashSet::new()
}

/// Always `None`.
#[must_use]
pub fn name_below(_directory: &Path, _wanted: u64) -> Option<String> {
    None
}
