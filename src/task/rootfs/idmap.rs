//! Root file systems with shifted owners: the options `uidmap=` and `gidmap=`, which containerd's
//! snapshotters give to containers with a user namespace (Kubernetes' `hostUsers: false`).
//!
//! An overlay's upper directory belongs to the container; its layers are shared, and each is
//! mounted shifted in a folder for the time of one mount(2). Other mounts are shifted where they
//! are.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, umount2};

use super::overlay;
use crate::sys;

/// Both maps, in the form of `/proc/PID/uid_map`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Maps {
    uid: String,
    gid: String,
}

impl Maps {
    /// From the values of the options: `CONTAINER:HOST:SIZE`, several with commas between. `None`
    /// for what is anything else.
    pub(super) fn parse(uid: &str, gid: &str) -> Option<Maps> {
        Some(Maps { uid: map(uid)?, gid: map(gid)? })
    }

    /// A user namespace with these maps.
    pub(super) fn namespace(&self) -> io::Result<OwnedFd> {
        sys::idmap::user_namespace(&self.uid, &self.gid)
    }
}

fn map(list: &str) -> Option<String> {
    let lines = list.split(',').map(|one| {
        let numbers: Vec<u32> =
            one.split(':').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let [container, host, size] = numbers[..] else { return None };
        Some(format!("{container} {host} {size}\n"))
    });
    lines.collect()
}

/// Layers of an overlay, each mounted shifted. They go when this does: an overlay keeps its own
/// hold.
#[derive(Debug)]
pub(super) struct Layers {
    folder: PathBuf,
    mounted: Vec<PathBuf>,
}

impl Layers {
    /// Mounts each lower directory of `data` shifted, and puts these in their places.
    pub(super) fn shift(data: &mut [String], namespace: &OwnedFd) -> io::Result<Layers> {
        let folder = nix::unistd::mkdtemp(&std::env::temp_dir().join("lookout-idmap-XXXXXX"))?;
        let mut layers = Layers { folder, mounted: Vec::new() };
        overlay::replace_lower(data, |number, layer| {
            let target = layers.folder.join(number.to_string());
            fs::create_dir(&target)?;
            let shifted = sys::idmap::mount_shifted(Path::new(layer), &target, namespace);
            layers.mounted.push(target.clone());
            shifted.map(|()| target)
        })?;
        Ok(layers)
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        // Lazily: nothing can keep them. What is not mounted any more, or never was, is no error.
        for target in &self.mounted {
            let _ = umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
            let _ = fs::remove_dir(target);
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that several ranges are taken, and nothing but three numbers each.
    #[test]
    fn maps_are_written_as_the_kernel_reads_them() {
        let maps = Maps::parse("0:65536:1000,1000:9:1", "0:1:2").unwrap();
        assert_eq!((maps.uid.as_str(), maps.gid.as_str()), ("0 65536 1000\n1000 9 1\n", "0 1 2\n"));
        for bad in ["", "0:1", "0:1:2:3", "a:1:2", "0:-1:2", "0:1:2,"] {
            assert_eq!(Maps::parse(bad, "0:1:2"), None, "{bad}");
        }
    }
}
