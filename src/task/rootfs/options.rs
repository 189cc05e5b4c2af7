//! Mount options: pure, from containerd's strings to what mount(2) takes.

use nix::mount::MsFlags;

use super::{Mount, MountError, idmap::Maps};

/// The options of one mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// For the mount itself.
    pub(super) flags: MsFlags,
    /// For a second mount(2): the kernel takes no propagation together with other flags.
    pub(super) propagation: MsFlags,
    /// What is no flag goes to the file system, in its order.
    pub(super) data: Vec<String>,
    /// How owners are shifted.
    pub(super) maps: Option<Maps>,
}

impl Options {
    pub(super) fn parse(mount: &Mount) -> Result<Options, MountError> {
        let unsupported = |what: &str| MountError::Unsupported {
            source_path: mount.source.clone(),
            what: what.to_owned(),
        };
        if ["fuse.", "fuse3."].iter().any(|helper| mount.kind.starts_with(helper))
            || mount.kind.contains('/')
        {
            return Err(unsupported(&mount.kind));
        }
        let mut options = Options {
            flags: MsFlags::empty(),
            propagation: MsFlags::empty(),
            data: Vec::new(),
            maps: None,
        };
        let (mut uids, mut gids) = (None, None);
        for option in &mount.options {
            if let Some((effect, flags)) = flag(option) {
                match effect {
                    Effect::Set => options.flags.insert(flags),
                    Effect::Clear => options.flags.remove(flags),
                    Effect::Propagate => options.propagation.insert(flags),
                }
            } else if let Some(map) = option.strip_prefix("uidmap=") {
                uids = Some(map);
            } else if let Some(map) = option.strip_prefix("gidmap=") {
                gids = Some(map);
            } else if option == "loop" || option.starts_with("X-containerd.") {
                return Err(unsupported(option));
            } else {
                options.data.push(option.clone());
            }
        }
        options.maps = match (uids, gids) {
            (None, None) => None,
            (Some(uids), Some(gids)) => {
                let maps = Maps::parse(uids, gids);
                Some(maps.ok_or_else(|| unsupported(&format!("uidmap={uids},gidmap={gids}")))?)
            }
            (Some(_), None) => return Err(unsupported("uidmap without gidmap")),
            (None, Some(_)) => return Err(unsupported("gidmap without uidmap")),
        };
        Ok(options)
    }
}

#[derive(Debug, Clone, Copy)]
enum Effect {
    Set,
    Clear,
    Propagate,
}

/// What an option does to the flags; `None` for what is meant for the file system.
fn flag(option: &str) -> Option<(Effect, MsFlags)> {
    use Effect::{Clear, Propagate, Set};
    Some(match option {
        "async" => (Clear, MsFlags::MS_SYNCHRONOUS),
        "atime" => (Clear, MsFlags::MS_NOATIME),
        "bind" => (Set, MsFlags::MS_BIND),
        "defaults" => (Set, MsFlags::empty()),
        "dev" => (Clear, MsFlags::MS_NODEV),
        "diratime" => (Clear, MsFlags::MS_NODIRATIME),
        "dirsync" => (Set, MsFlags::MS_DIRSYNC),
        "exec" => (Clear, MsFlags::MS_NOEXEC),
        "mand" => (Set, MsFlags::MS_MANDLOCK),
        "noatime" => (Set, MsFlags::MS_NOATIME),
        "nodev" => (Set, MsFlags::MS_NODEV),
        "nodiratime" => (Set, MsFlags::MS_NODIRATIME),
        "noexec" => (Set, MsFlags::MS_NOEXEC),
        "nomand" => (Clear, MsFlags::MS_MANDLOCK),
        "norelatime" => (Clear, MsFlags::MS_RELATIME),
        "nostrictatime" => (Clear, MsFlags::MS_STRICTATIME),
        "nosuid" => (Set, MsFlags::MS_NOSUID),
        "rbind" => (Set, MsFlags::MS_BIND.union(MsFlags::MS_REC)),
        "relatime" => (Set, MsFlags::MS_RELATIME),
        "remount" => (Set, MsFlags::MS_REMOUNT),
        "ro" => (Set, MsFlags::MS_RDONLY),
        "rw" => (Clear, MsFlags::MS_RDONLY),
        "strictatime" => (Set, MsFlags::MS_STRICTATIME),
        "suid" => (Clear, MsFlags::MS_NOSUID),
        "sync" => (Set, MsFlags::MS_SYNCHRONOUS),
        "private" => (Propagate, MsFlags::MS_PRIVATE),
        "rprivate" => (Propagate, MsFlags::MS_PRIVATE.union(MsFlags::MS_REC)),
        "shared" => (Propagate, MsFlags::MS_SHARED),
        "rshared" => (Propagate, MsFlags::MS_SHARED.union(MsFlags::MS_REC)),
        "slave" => (Propagate, MsFlags::MS_SLAVE),
        "rslave" => (Propagate, MsFlags::MS_SLAVE.union(MsFlags::MS_REC)),
        "unbindable" => (Propagate, MsFlags::MS_UNBINDABLE),
        "runbindable" => (Propagate, MsFlags::MS_UNBINDABLE.union(MsFlags::MS_REC)),
        _ => return None,
    })
}
