//! The fuzz target of the files of the node: mounts, cgroups, namespaces, block devices.

use std::{hint::black_box, os::unix::ffi::OsStrExt as _, path::Path};

use super::{
    boot,
    cgroup::{CgroupPath, MEMBERS_LIMIT, Memberships, Relation, parse_members},
    mountinfo, namespace, partitions,
};
use crate::clock;

/// Parses a file. Its first byte chooses the format.
pub(crate) fn node_files(bytes: &[u8]) {
    let Some((format, text)) = bytes.split_first() else { return };
    match format {
        b'm' => mounts(text),
        b'c' => memberships(text),
        b'p' => {
            let mut found = vec![(1, None); MEMBERS_LIMIT - 2];
            parse_members(text, Some(7), &mut found);
            assert!(found.len() <= MEMBERS_LIMIT && found.iter().all(|(pid, _)| *pid > 0));
        }
        b'n' => {
            if let Some(inode) = namespace::parse(text, "pid") {
                let again = format!("pid:[{inode}]");
                assert_eq!(namespace::parse(again.as_bytes(), "pid"), Some(inode));
            }
        }
        b'b' => {
            black_box(partitions::parse(text));
        }
        b'i' => {
            black_box(boot::parse(text));
        }
        b't' => clock::fuzzing::offsets(text),
        _ => {}
    }
}

/// A mountinfo file; up to the first newline the path of a directory that is looked for.
fn mounts(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (path, text) = bytes.split_at(at);
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    for mount in mountinfo::parse(text) {
        // Names are as long as in the file, or shorter by the escapes.
        assert!(mount.root.as_os_str().len() + mount.point.as_os_str().len() <= text.len());
        black_box(mount.has_option("memory"));
    }
    if let Some(mount) = mountinfo::shown_at(text, path) {
        assert!(path.starts_with(&mount.point));
    }
    black_box(CgroupPath::find(path, text));
}

/// The memberships of a process, compared with those that are known of two cgroups.
fn memberships(text: &[u8]) {
    const MOUNTS: &[u8] = b"30 1 0:26 / /cg rw - cgroup2 cgroup2 rw\n\
        31 1 0:27 /a /cg1 rw - cgroup cgroup rw,memory\n";
    let memberships = Memberships::parse(text);
    for (hierarchy, path) in memberships.iter() {
        black_box((hierarchy.has_controller("memory"), path.is_absolute()));
    }
    for (directory, controller) in [("/cg/a", ""), ("/cg", ""), ("/cg1/b", "memory")] {
        let cgroup = CgroupPath::find(Path::new(directory), MOUNTS).expect("it is mounted");
        let relation = cgroup.relation(&memberships);
        assert!(relation.is_none() || memberships.path(controller).is_some());
        if let Some(Relation::Below(below)) = relation {
            let is_below = below.starts_with(directory) && below != Path::new(directory);
            // An absolute path that begins with two slashes would replace the directory.
            assert!(is_below, "{} is not below {directory}", below.display());
        }
    }
}
