//! Cgroups, which this system does not have.

use std::{collections::HashSet, io, path::Path};

use super::unsupported;

const NO_CGROUPS: &str = "this system has no cgroups";

/// The most processes that one scan returns: the same as on Linux.
pub(crate) const MEMBERS_LIMIT: usize = 32_768;

/// Would return the id of a cgroup.
///
/// # Errors
///
/// `Unsupported`, always.
pub fn id(_directory: &Path) -> io::Result<u64> {
    Err(unsupported(NO_CGROUPS))
}

/// Would return the processes in a cgroup and in the cgroups below it.
///
/// # Errors
///
/// `Unsupported`, always.
pub fn members_by_cgroup(_cgroup: &Path) -> io::Result<Vec<(i32, Option<u64>)>> {
    Err(unsupported(NO_CGROUPS))
}

/// The ids of the cgroups at and below a directory. Always empty.
#[must_use]
pub fn ids_below(_directory: &Path) -> HashSet<u64> {
    HashSet::new()
}

/// The path of a cgroup below a directory. Always `None`.
#[must_use]
pub fn name_below(_directory: &Path, _wanted: u64) -> Option<String> {
    None
}
