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
    /// A directory that may or may not exist.
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The path of one of its files.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether it is there and is a cgroup: each one, of both versions, has this file.
    pub(super) fn exists(&self) -> bool {
        self.file("cgroup.procs").symlink_metadata().is_ok()
    }

    /// The content of a file, or nothing for whatever reason: statistics are told without it.
    pub(super) fn content(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.file(name)).ok()
    }

    /// This directory, then those below it, `most` in all.
    ///
    /// A directory that is removed meanwhile has no children. How deep and wide the tree is, the
    /// container may decide: nothing recurses, and no more than `most` entries are kept.
    pub(super) fn tree(&self, most: usize) -> impl Iterator<Item = io::Result<Dir>> {
        let mut left = vec![self.clone()];
        let mut room = most.saturating_sub(1);
        iter::from_fn(move || {
            let dir = left.pop()?;
            match dir.children(room) {
                Ok(children) => {
                    room -= children.len();
                    left.extend(children);
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => return Some(Err(error)),
            }
            Some(Ok(dir))
        })
    }

    /// At most `most` of the directories in this one.
    fn children(&self, most: usize) -> io::Result<Vec<Dir>> {
        let mut children = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            if children.len() == most {
                break;
            }
            // getdents(2) tells the type: no further call for each of a cgroup's many files.
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
