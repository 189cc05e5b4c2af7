//! One directory of a cgroup file system.

use std::{
    fs, io, iter,
    path::{Path, PathBuf},
};

use super::error::is_gone;

/// The directory of one cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dir(PathBuf);

impl Dir {
    /// A directory at `path`, which need not exist.
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The path of the directory, below a mount point of this shim.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The path of the file `name` in this directory.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether the directory exists and is a cgroup: every cgroup of both versions has the file
    /// `cgroup.procs`.
    pub(super) fn exists(&self) -> bool {
        self.file("cgroup.procs").symlink_metadata().is_ok()
    }

    /// The content of a file. `None` for any error, because statistics that cannot be read are left
    /// out.
    pub(super) fn content(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.file(name)).ok()
    }

    /// This directory, then the directories below it, at most `max` directories in total.
    ///
    /// A directory that is removed meanwhile has no children. The container decides how deep and
    /// wide the tree is, so this function does not recurse and keeps at most `max` entries in
    /// memory.
    pub(super) fn tree(&self, max: usize) -> impl Iterator<Item = io::Result<Dir>> {
        let mut left = vec![self.clone()];
        let mut quota = max.saturating_sub(1);
        iter::from_fn(move || {
            let dir = left.pop()?;
            match dir.children(quota) {
                Ok(children) => {
                    // The subtraction cannot underflow: there are at most `quota` children.
                    quota -= children.len();
                    left.extend(children);
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => return Some(Err(error)),
            }
            Some(Ok(dir))
        })
    }

    /// The directories in this directory, `max` at most.
    fn children(&self, max: usize) -> io::Result<Vec<Dir>> {
        let mut children = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            if children.len() == max {
                break;
            }
            // getdents(2) returns the type of each entry, so no further system call is made for the
            // many files of a cgroup.
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                children.push(Dir(entry.path()));
            }
        }
        Ok(children)
    }
}

#[cfg(test)]
mod tests;
