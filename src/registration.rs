//! How a shim is found: one file each, `<runtime dir>/shims/<namespace>/<shim id>.json`.
//!
//! Written by a shim that serves, removed by it at Shutdown or by `delete` after it, read by the
//! `lookout` command. A file that outlives its shim is harmless: its pid and start name a process
//! that is gone, so readers pass over it.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::platform::{HAS_SHIMS, process::start_ticks};

/// Where run-time files are where nothing else is said.
const RUNTIME_DIR: &str = "/run/lookout";

/// What a file may have; a longer one is passed over.
const FILE_MAX: u64 = 64 << 10;

/// How often a write is tried: whoever removes the last file of a namespace removes its folder too,
/// perhaps at that moment.
const TRIES: u32 = 3;

/// One shim that serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// containerd's namespace: the folder's name.
    #[serde(skip)]
    pub namespace: String,
    /// The shim's id, its container's or its pod sandbox's: the file's name.
    #[serde(skip)]
    pub id: String,
    /// Its process.
    pub pid: i32,
    /// When that began, in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start: u64,
    /// Its socket, `unix:///…`; a path alone is read as one.
    pub address: String,
    /// Its run: the first part of its cursors.
    #[serde(default)]
    pub epoch: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
}

/// `$LOOKOUT_RUNTIME_DIR`, or `/run/lookout`.
#[must_use]
pub fn runtime_dir() -> PathBuf {
    let set = std::env::var_os("LOOKOUT_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    set.map_or_else(|| PathBuf::from(RUNTIME_DIR), PathBuf::from)
}

impl Registration {
    /// Writes the file, whole or not at all, for nobody but its owner.
    ///
    /// # Errors
    ///
    /// `InvalidInput` where the namespace or the id cannot be a file's name; what the filesystem
    /// answered.
    pub fn write(&self, runtime_dir: &Path) -> io::Result<()> {
        let path = path(runtime_dir, &self.namespace, &self.id)?;
        let folder = path.parent().unwrap_or(runtime_dir);
        let new = unfinished(&path);
        let text = serde_json::to_vec(self)?;
        let write = || {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let mut open = OpenOptions::new();
            open.write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .custom_flags(nix::libc::O_NOFOLLOW);
            open.open(&new)?.write_all(&text)?;
            fs::rename(&new, &path)
        };
        let mut tries = 1;
        loop {
            match write() {
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => {
                    tries += 1
                }
                Err(error) => {
                    let _ = fs::remove_file(&new);
                    return Err(error);
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Whether the process that wrote it is still there.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.start != 0 && start_ticks(self.pid) == Some(self.start)
    }
}

/// Removes a shim's file, and its namespace's folder if that was the last one. No file is no error.
///
/// # Errors
///
/// `InvalidInput` as in [`Registration::write`]; what the filesystem answered.
pub fn remove(runtime_dir: &Path, namespace: &str, shim_id: &str) -> io::Result<()> {
    let path = path(runtime_dir, namespace, shim_id)?;
    // What a shim that was killed meanwhile has left.
    let _ = fs::remove_file(unfinished(&path));
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Refused while another shim's is in it.
    let _ = path.parent().map(fs::remove_dir);
    Ok(())
}

/// Whether a shim's file is there and its process is not.
#[must_use]
pub fn is_left(runtime_dir: &Path, namespace: &str, shim_id: &str) -> bool {
    let Ok(path) = path(runtime_dir, namespace, shim_id) else { return false };
    // What is no registration is nobody's.
    path.exists() && !read(&path).is_some_and(|registration| registration.is_alive())
}

/// The shims that live, sorted by namespace and id; of one namespace, or of all. What is no
/// registration and what cannot be read as one is passed over.
///
/// # Errors
///
/// What the system answers when a folder cannot be read; that there is none is no error.
/// `Unsupported` where there can be none: [`HAS_SHIMS`].
pub fn registrations(runtime_dir: &Path, namespace: Option<&str>) -> io::Result<Vec<Registration>> {
    if !HAS_SHIMS {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "shims run on Linux only"));
    }
    let shims = runtime_dir.join("shims");
    let mut found = Vec::new();
    for name in names(&shims)? {
        if namespace.is_some_and(|wanted| wanted != name) {
            continue;
        }
        let folder = shims.join(&name);
        for file in names(&folder)? {
            let Some(id) = file.strip_suffix(".json").filter(|id| !id.starts_with('.')) else {
                continue;
            };
            let Some(read) = read(&folder.join(&file)) else { continue };
            let registration = Registration { namespace: name.clone(), id: id.to_owned(), ..read };
            found.extend(Some(registration).filter(Registration::is_alive));
        }
    }
    found.sort_unstable_by(|one, other| {
        (&one.namespace, &one.id).cmp(&(&other.namespace, &other.id))
    });
    Ok(found)
}

fn path(runtime_dir: &Path, namespace: &str, shim_id: &str) -> io::Result<PathBuf> {
    // The id of a group comes from an annotation.
    let is_name =
        |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
    if !is_name(namespace) || !is_name(shim_id) {
        let why = format!("{namespace:?} and {shim_id:?} are not both a file's name");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(runtime_dir.join("shims").join(namespace).join(format!("{shim_id}.json")))
}

/// Where a file is until it is whole. No reader takes it for a registration: it does not end in
/// `.json`. One shim of an id serves at a time, so only one writes it.
fn unfinished(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            entries.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default())).collect()
        }
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> Option<Registration> {
    let mut open = OpenOptions::new();
    // A pipe in the place of a file must not hold the reader.
    open.read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    let file = open.open(path).ok()?;
    let mut text = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut text).ok()?;
    if text.len() as u64 > FILE_MAX {
        return None;
    }
    let mut read: Registration = serde_json::from_slice(&text).ok()?;
    if read.address.starts_with('/') {
        read.address.insert_str(0, "unix://");
    }
    Some(read)
}

#[cfg(test)]
mod tests;
