//! How the node's cgroups are mounted.

use crate::linux::mountinfo;

/// Which versions of cgroups are mounted at or below `/sys/fs/cgroup`: `v1`, `hybrid`, `v2` or
/// `none`. `None` if the mounts cannot be read.
#[must_use]
pub fn cgroup_mode() -> Option<&'static str> {
    mountinfo::read().ok().map(|mounts| mode_of(&mounts))
}

/// The mode, by the text of mountinfo.
fn mode_of(mounts: &[u8]) -> &'static str {
    let has = |kind: &[u8]| {
        mountinfo::parse(mounts)
            .any(|mount| mount.kind == kind && mount.point.starts_with("/sys/fs/cgroup"))
    };
    match (has(b"cgroup"), has(b"cgroup2")) {
        (true, true) => "hybrid",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check the mode of a node of each kind, by its mounts.
    #[test]
    fn the_mode_of_cgroups_follows_from_the_mounts() {
        let v1 = "30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let unified = "31 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let v2 = "32 24 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let other = "33 24 0:29 / /mnt/cgroup rw - cgroup cgroup rw,memory\n";
        for (mounts, mode) in [
            (v1.to_owned(), "v1"),
            ([v1, unified].concat(), "hybrid"),
            (v2.to_owned(), "v2"),
            ([v2, other].concat(), "v2"),
            (String::new(), "none"),
        ] {
            assert_eq!(mode_of(mounts.as_bytes()), mode, "{mounts}");
        }
    }
}
