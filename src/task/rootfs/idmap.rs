//! Root file systems with mapped owners: the options `uidmap=` and `gidmap=`, which containerd's
//! snapshotters give to containers with a user namespace (Kubernetes' `hostUsers: false`).
//!
//! The upper directory of an overlay belongs to the container, but its layers are shared. So each
//! layer is mounted idmapped in a temporary directory while mount(2) mounts the overlay. Other
//! mounts are idmapped at their own mount point.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, umount2};

use super::overlay;
use crate::sys;

/// The user and group maps, in the format of `/proc/PID/uid_map`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Maps {
    uid: String,
    gid: String,
}

impl Maps {
    /// Parses the values of the options: ranges `CONTAINER:HOST:SIZE`, separated by commas. `None`
    /// if the format is different.
    pub(super) fn parse(uid: &str, gid: &str) -> Option<Maps> {
        Some(Maps { uid: map(uid)?, gid: map(gid)? })
    }

    /// Creates a user namespace with these maps.
    pub(super) fn namespace(&self) -> io::Result<OwnedFd> {
        sys::idmap::user_namespace(&self.uid, &self.gid)
    }
}

/// Converts the value of an option to the lines of a map.
fn map(list: &str) -> Option<String> {
    let lines = list.split(',').map(|range| {
        let numbers: Vec<u32> =
            range.split(':').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let [container, host, size] = numbers[..] else { return None };
        Some(format!("{container} {host} {size}\n"))
    });
    lines.collect()
}

/// The layers of an overlay, each mounted idmapped. Dropping this value unmounts them. A mounted
/// overlay keeps its own references to its layers.
#[derive(Debug)]
pub(super) struct Layers {
    directory: PathBuf,
    mounted: Vec<PathBuf>,
}

impl Layers {
    /// Mounts each lower directory of `data` idmapped, and replaces its path in `data` by the path
    /// of that mount.
    pub(super) fn shift(data: &mut [String], namespace: &OwnedFd) -> io::Result<Layers> {
        let directory = nix::unistd::mkdtemp(&std::env::temp_dir().join("lookout-idmap-XXXXXX"))?;
        let mut layers = Layers { directory, mounted: Vec::new() };
        overlay::replace_lower(data, |number, layer| {
            let target = layers.directory.join(number.to_string());
            fs::create_dir(&target)?;
            let shifted = sys::idmap::mount_shifted(Path::new(layer), &target, namespace);
            // The target is recorded even if the mount failed, so that dropping `layers` removes
            // the directory.
            layers.mounted.push(target.clone());
            shifted.map(|()| target)
        })?;
        Ok(layers)
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        // The unmount is lazy, so that it succeeds even if a file of a layer is open. Errors are
        // ignored, because a layer that failed to mount is also in the list.
        for target in &self.mounted {
            let _ = umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
            let _ = fs::remove_dir(target);
        }
        let _ = fs::remove_dir(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that several ranges are accepted, and that a range without exactly three numbers is
    /// refused.
    #[test]
    fn maps_are_in_the_kernels_format() {
        let maps = Maps::parse("0:65536:1000,1000:9:1", "0:1:2").unwrap();
        assert_eq!((maps.uid.as_str(), maps.gid.as_str()), ("0 65536 1000\n1000 9 1\n", "0 1 2\n"));
        for bad in ["", "0:1", "0:1:2:3", "a:1:2", "0:-1:2", "0:1:2,"] {
            assert_eq!(Maps::parse(bad, "0:1:2"), None, "{bad}");
        }
    }
}
