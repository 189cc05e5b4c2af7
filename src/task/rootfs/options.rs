//! Parses the mount options from containerd and returns the arguments of mount(2). Pure: does no
//! I/O.

use nix::mount::MsFlags;

use super::{Mount, MountError, idmap::Maps};

/// The options of one mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// Flags of the mount itself.
    pub(super) flags: MsFlags,
    /// Propagation flags. They are set by a second mount(2), because the kernel does not accept
    /// them together with other flags.
    pub(super) propagation: MsFlags,
    /// The options that are not flags, in order. They are passed to the file system.
    pub(super) data: Vec<String>,
    /// The id mappings of the mount; `None` without `uidmap=` and `gidmap=`.
    pub(super) maps: Option<Maps>,
    /// Whether the source is a file that is to be mounted through a loop device.
    pub(super) use_loop: bool,
}

impl Options {
    /// Parses the options of `mount`; later options override earlier ones.
    ///
    /// # Errors
    ///
    /// [`MountError::Unsupported`] for a kind or an option that this shim does not mount.
    pub(super) fn parse(mount: &Mount) -> Result<Options, MountError> {
        let unsupported = |what: &str| MountError::Unsupported {
            source_path: mount.source.clone(),
            what: what.to_owned(),
        };
        // A type with a `/` is a chain such as `format/mkdir/overlay`, for containerd's mount
        // manager.
        if mount.kind.contains('/') {
            return Err(unsupported(&mount.kind));
        }
        let mut options = Options {
            flags: MsFlags::empty(),
            propagation: MsFlags::empty(),
            data: Vec::new(),
            maps: None,
            use_loop: false,
        };
        let (mut uids, mut gids) = (None, None);
        for option in &mount.options {
            if let Some((effect, flags)) = flag(option) {
                match effect {
                    FlagChange::Set => options.flags.insert(flags),
                    FlagChange::Clear => options.flags.remove(flags),
                    FlagChange::Propagate => options.propagation.insert(flags),
                }
            } else if let Some(map) = option.strip_prefix("uidmap=") {
                uids = Some(map);
            } else if let Some(map) = option.strip_prefix("gidmap=") {
                gids = Some(map);
            } else if option == "loop" {
                options.use_loop = true;
            } else if option.starts_with("X-containerd.") {
                // The kernel does not know these options: containerd must handle them.
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

/// What an option does with the flags that belong to it.
#[derive(Debug, Clone, Copy)]
enum FlagChange {
    Set,
    Clear,
    Propagate,
}

/// The flags of an option, and whether the option sets or clears them; `None` for an option of the
/// file system.
fn flag(option: &str) -> Option<(FlagChange, MsFlags)> {
    use FlagChange::{Clear, Propagate, Set};
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
