//! Overlays with many layers: mount(2) takes only one page of options.
//!
//! The path of a lower directory has about 100 bytes, so about 40 layers fill the page. If they do
//! not fit, the paths are written relative to their common directory, and the overlay is mounted
//! from a thread that has this working directory. The working directory of other threads does not
//! change: the thread unshares its working directory (`CLONE_FS`), and ends after the mount.

use std::{
    io,
    path::{Component, Path, PathBuf},
    thread,
};

use nix::{
    mount::MsFlags,
    sched::{CloneFlags, unshare},
    unistd::chdir,
};

use super::raw_mount;
use crate::sys::page_size;

/// The number of bytes of the page that are left free, as in containerd, because the kernel needs
/// some of them.
const SPARE_BYTES: usize = 512;

/// The option that lists the lower directories of an overlay.
const LOWERDIR: &str = "lowerdir=";

/// Shortens options that would not fit into the page. Returns the working directory that the mount
/// needs (`None` if it needs no particular one), and the options relative to that directory.
pub(super) fn fit_into_page(data: Vec<String>) -> (Option<PathBuf>, Vec<String>) {
    let size: usize = data.iter().map(|option| option.len() + 1).sum();
    // mount(2) takes one page of options, with the NUL at the end.
    match size >= page_size() - SPARE_BYTES {
        true => shorten(data),
        false => (None, data),
    }
}

/// Makes lower directories relative to the deepest directory that contains all of them. Options
/// that cannot be shortened are returned unchanged.
pub(super) fn shorten(mut data: Vec<String>) -> (Option<PathBuf>, Vec<String>) {
    let Some(option) = data.iter_mut().find(|option| option.starts_with(LOWERDIR)) else {
        return (None, data);
    };
    let directories = split_lower(&option[LOWERDIR.len()..]);
    let Some(common) = common_directory(&directories) else { return (None, data) };
    let relative: Vec<&str> =
        directories.iter().map(|directory| below(&common, directory)).collect();
    *option = format!("{LOWERDIR}{}", relative.join(":"));
    (Some(PathBuf::from(unescaped(&common))), data)
}

/// Replaces each lower directory by the result of `replace`, which gets the number of the layer and
/// its path without escapes. The new path must need no escapes.
pub(super) fn replace_lower(
    data: &mut [String],
    mut replace: impl FnMut(usize, &str) -> io::Result<PathBuf>,
) -> io::Result<()> {
    let Some(option) = data.iter_mut().find(|option| option.starts_with(LOWERDIR)) else {
        return Ok(());
    };
    let replaced = split_lower(&option[LOWERDIR.len()..]).into_iter().enumerate().map(
        |(number, directory)| match directory {
            "" => Ok(String::new()),
            directory => Ok(replace(number, &unescaped(directory))?.display().to_string()),
        },
    );
    let replaced = replaced.collect::<io::Result<Vec<_>>>()?.join(":");
    *option = format!("{LOWERDIR}{replaced}");
    Ok(())
}

/// Splits a list of directories at colons that are not escaped. An empty part (`::`) separates
/// data-only layers.
fn split_lower(list: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b':' if !escaped => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        escaped = byte == b'\\' && !escaped;
    }
    parts.push(&list[start..]);
    parts
}

/// The deepest directory that contains all `directories`. `None` if a path is relative or contains
/// `..`, or if only `/` contains all of them.
fn common_directory(directories: &[&str]) -> Option<String> {
    let mut parents =
        directories.iter().filter(|directory| !directory.is_empty()).map(|directory| {
            let path = Path::new(directory);
            let plain = path.is_absolute()
                && path.components().all(|part| !matches!(part, Component::ParentDir));
            // The parents are compared, so that no directory becomes an empty path: `::` has
            // another meaning.
            plain.then(|| path.parent().unwrap_or(path))
        });
    let mut common = parents.next()??.to_owned();
    for parent in parents {
        let parent = parent?;
        while !parent.starts_with(&common) {
            common.pop();
        }
    }
    let common = common.to_str()?.to_owned();
    (common != "/").then_some(common)
}

/// The path of `directory` relative to `common`.
fn below<'a>(common: &str, directory: &'a str) -> &'a str {
    let rest = Path::new(directory).strip_prefix(common).ok().and_then(Path::to_str);
    rest.unwrap_or(directory)
}

/// Removes the escapes of overlayfs, which chdir(2) does not interpret.
fn unescaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut chars = path.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => out.extend(chars.next()),
            char => out.push(char),
        }
    }
    out
}

/// Calls mount(2), with `directory` as the working directory if it is given.
pub(super) fn mount_in(
    directory: Option<&Path>,
    source: &str,
    target: &Path,
    kind: &str,
    flags: MsFlags,
    data: &str,
) -> nix::Result<()> {
    let Some(directory) = directory else { return raw_mount(source, target, kind, flags, data) };
    thread::scope(|scope| {
        let mount = || {
            // Threads share their working directory until this call.
            unshare(CloneFlags::CLONE_FS)?;
            chdir(directory)?;
            raw_mount(source, target, kind, flags, data)
        };
        let thread = thread::Builder::new().name("mount".to_owned()).spawn_scoped(scope, mount);
        let thread = thread.map_err(|error| errno(&error))?;
        // A thread that panicked has mounted nothing.
        thread.join().unwrap_or(Err(nix::Error::EIO))
    })
}

fn errno(error: &io::Error) -> nix::Error {
    error.raw_os_error().map_or(nix::Error::EAGAIN, nix::Error::from_raw)
}
