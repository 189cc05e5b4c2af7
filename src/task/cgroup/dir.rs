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

    /// Whether it is there and is a cgroup: each one but a threaded root has this file.
    pub(super) fn exists(&self) -> bool {
        self.file("cgroup.procs").symlink_metadata().is_ok()
    }

    /// The content of a file, or nothing for whatever reason: statistics are told without it.
    pub(super) fn content(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.file(name)).ok()
    }

    /// This directory, then every one below it.
    ///
    /// A directory that is removed meanwhile has no children. Nothing recurses and nothing is read
    /// ahead of the caller: how deep and wide the tree is, the container may decide.
    pub(super) fn tree(&self) -> impl Iterator<Item = io::Result<Dir>> {
        let mut left = vec![self.clone()];
        iter::from_fn(move || {
            let dir = left.pop()?;
            match dir.children() {
                Ok(children) => left.extend(children),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Some(Err(error)),
            }
            Some(Ok(dir))
        })
    }

    fn children(&self) -> io::Result<Vec<Dir>> {
        let mut children = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            // getdents(2) tells the type: no further call for each of a cgroup's many files.
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                children.push(Dir(entry.path()));
            }
        }
        Ok(children)
    }
}
