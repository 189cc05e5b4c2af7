//! Access to a path that is denied to this user, with the directory that denies it.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Access to a socket, a file or a directory was denied, because this user is not root and not the
/// owner.
#[derive(Debug)]
pub struct AccessDenied {
    path: PathBuf,
    /// The owner of `path`; `None` if it could not be read.
    owner: Option<u32>,
}

impl AccessDenied {
    /// Explains an error of a system call on `path`. `None` if the error has another reason than
    /// missing permission, or if this process is root, which a file mode does not stop.
    #[must_use]
    pub fn from_error(path: &Path, error: &io::Error) -> Option<Self> {
        let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
        if !is_denied || nix::unistd::geteuid().is_root() {
            return None;
        }
        let path = denied_part(path).to_owned();
        let owner = fs::metadata(&path).ok().map(|metadata| metadata.uid());
        Some(Self { path, owner })
    }
}

/// The part of `path` that denies access: a directory that this user may not search, else the path
/// itself.
fn denied_part(path: &Path) -> &Path {
    let is_hidden = |path: &&Path| {
        fs::symlink_metadata(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    // `ancestors` begins with the path itself; the last one that is hidden is the outermost.
    let outermost = path.ancestors().take_while(is_hidden).last();
    outermost.and_then(Path::parent).unwrap_or(path)
}

impl fmt::Display for AccessDenied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "permission denied on {}", self.path.display())?;
        match self.owner {
            Some(0) => formatter.write_str(", which belongs to root: run this command as root"),
            Some(uid) => write!(
                formatter,
                ", which belongs to the user {uid}: run this command as that user or as root"
            ),
            None => formatter.write_str(": run this command as root"),
        }
    }
}

impl std::error::Error for AccessDenied {}
