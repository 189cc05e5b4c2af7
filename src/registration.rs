//! The registrations of shims. Each shim has one, by which clients find the shim: the file
//! `<runtime dir>/shims/<namespace>/<shim id>.json`.
//!
//! A serving shim writes its file and removes it at Shutdown; `delete` removes it after a crash.
//! The `lookout` command reads the files. A file that outlives its shim is harmless: the pid and
//! the start time in it identify a process that does not exist any more, so readers ignore the
//! file.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::platform::{HAS_SHIMS, process::start_ticks};

/// The runtime directory, unless `LOOKOUT_RUNTIME_DIR` names another directory.
const RUNTIME_DIR: &str = "/run/lookout";

/// The most bytes that a registration may have. A larger file is ignored.
const FILE_MAX: u64 = 64 << 10;

/// The number of attempts to write a file. An attempt fails if another process removes the last
/// file of the namespace's directory, and then the directory, at that moment.
const TRIES: u32 = 3;

/// A serving shim, as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// containerd's namespace, which is the name of the file's directory.
    #[serde(skip)]
    pub namespace: String,
    /// The shim's id, which is the name of the file: the id of its container or pod sandbox.
    #[serde(skip)]
    pub id: String,
    /// The pid of the shim.
    pub pid: i32,
    /// The start time of the shim, in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start: u64,
    /// The address of the shim's socket, `unix:///…`. If the file has a path without `unix://`,
    /// reading the file adds this prefix.
    pub address: String,
    /// The shim's epoch, which is the first part of its cursors.
    #[serde(default)]
    pub epoch: String,
    /// The version of the shim.
    #[serde(default)]
    pub version: String,
}

/// The runtime directory: `$LOOKOUT_RUNTIME_DIR`, or `/run/lookout`.
#[must_use]
pub fn runtime_dir() -> PathBuf {
    let set = std::env::var_os("LOOKOUT_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    set.map_or_else(|| PathBuf::from(RUNTIME_DIR), PathBuf::from)
}

impl Registration {
    /// Writes the file atomically, with mode 0600.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the namespace or the id cannot be a file name, else the error of the
    /// filesystem.
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

    /// Whether the shim still runs: its pid exists and has the same start time.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.start != 0 && start_ticks(self.pid) == Some(self.start)
    }
}

/// Removes a shim's file, and the namespace's directory if it is empty then. A missing file is not
/// an error.
///
/// # Errors
///
/// `InvalidInput` as in [`Registration::write`], else the error of the filesystem.
pub fn remove(runtime_dir: &Path, namespace: &str, shim_id: &str) -> io::Result<()> {
    let path = path(runtime_dir, namespace, shim_id)?;
    // A shim that was killed while it wrote its file may have left this file.
    let _ = fs::remove_file(unfinished(&path));
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // This fails if the directory has the file of another shim, and then the directory stays.
    let _ = path.parent().map(fs::remove_dir);
    Ok(())
}

/// Whether a dead shim has left its file.
#[must_use]
pub fn is_stale(runtime_dir: &Path, namespace: &str, shim_id: &str) -> bool {
    let Ok(path) = path(runtime_dir, namespace, shim_id) else { return false };
    // A file that cannot be read as a registration does not belong to a living shim either.
    path.exists() && !read(&path).is_ok_and(|registration| registration.is_alive())
}

/// The living shims of one namespace or of all, sorted by namespace and id. Files that are not
/// valid registrations are ignored.
///
/// # Errors
///
/// The error of the filesystem if a directory cannot be read; a missing directory has no shims.
/// `PermissionDenied` also if a file must not be read.
/// `Unsupported` if [`HAS_SHIMS`] is false.
pub fn registrations(runtime_dir: &Path, namespace: Option<&str>) -> io::Result<Vec<Registration>> {
    if !HAS_SHIMS {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "shims run on Linux only"));
    }
    let shims = runtime_dir.join("shims");
    let mut found = Vec::new();
    for name in names(&shims)? {
        if namespace.is_some_and(|only| only != name) {
            continue;
        }
        let folder = shims.join(&name);
        for file in names(&folder)? {
            let Some(id) = file.strip_suffix(".json").filter(|id| !id.starts_with('.')) else {
                continue;
            };
            let read = match read(&folder.join(&file)) {
                Ok(read) => read,
                // The file is 0600: another user would see a node without shims.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
                Err(_) => continue,
            };
            let registration = Registration { namespace: name.clone(), id: id.to_owned(), ..read };
            found.extend(Some(registration).filter(Registration::is_alive));
        }
    }
    found.sort_unstable_by(|a, b| (&a.namespace, &a.id).cmp(&(&b.namespace, &b.id)));
    Ok(found)
}

fn path(runtime_dir: &Path, namespace: &str, shim_id: &str) -> io::Result<PathBuf> {
    // The id of a group comes from an annotation, so it may be any string.
    let is_name =
        |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
    if !is_name(namespace) || !is_name(shim_id) {
        let why = format!("namespace {namespace:?} or shim id {shim_id:?} cannot be a file name");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(runtime_dir.join("shims").join(namespace).join(format!("{shim_id}.json")))
}

/// The temporary path under which a registration is written before it is renamed to `path`. Readers
/// ignore the temporary file, because its name does not end in `.json`. Only one shim with an id
/// serves at a time, so there is only one writer.
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

fn read(path: &Path) -> io::Result<Registration> {
    let mut open = OpenOptions::new();
    // Without O_NONBLOCK a fifo at this path would block the reader.
    open.read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    let file = open.open(path)?;
    let mut text = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut text)?;
    let parsed = if text.len() as u64 > FILE_MAX { None } else { parse(&text) };
    parsed.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse(text: &[u8]) -> Option<Registration> {
    let mut read: Registration = serde_json::from_slice(text).ok()?;
    if read.address.starts_with('/') {
        read.address.insert_str(0, "unix://");
    }
    Some(read)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing {
    use std::{hint::black_box, path::Path};

    use super::{Registration, parse, path};

    /// Reads a registration, and makes a path from its strings.
    pub(crate) fn file(bytes: &[u8]) {
        let Some(read) = parse(bytes) else { return };
        assert!(!read.address.starts_with('/'));
        let again = serde_json::to_vec(&read).expect("it consists of text and numbers");
        assert_eq!(parse(&again).as_ref(), Some(&read));
        if let Ok(path) = path(Path::new("/run"), &read.epoch, &read.version) {
            assert_eq!(path.components().count(), 5);
        }
        black_box(Registration::is_alive(&read));
    }
}

#[cfg(test)]
mod tests;
