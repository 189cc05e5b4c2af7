//! Overlays with many layers: mount(2) takes one page of options.
//!
//! A lower directory is about a hundred bytes long, so some forty layers fill the page. They are
//! then written relative to the folder that they have in common, and mounted from a thread whose
//! working directory that folder is. Only that thread's: it leaves the others' (`CLONE_FS`) and
//! ends.

use std::{
    io,
    path::{Component, Path, PathBuf},
    thread,
};

use nix::{
    mount::MsFlags,
    sched::{CloneFlags, unshare},
    unistd::{SysconfVar, chdir, sysconf},
};

use super::raw_mount;

/// What is left free of the page, as containerd does: the kernel wants a few bytes of it for
/// itself.
const SPARE: usize = 512;

const KEY: &str = "lowerdir=";

/// The size of a page, which is what mount(2) takes of options, with a NUL at the end.
pub(super) fn page() -> usize {
    let size =
        sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| usize::try_from(size).ok());
    size.unwrap_or(4096)
}

/// Shortens options that would not fit: to the folder to be in, and the options as seen from there.
pub(super) fn fit(data: Vec<String>) -> (Option<PathBuf>, Vec<String>) {
    let size: usize = data.iter().map(|option| option.len() + 1).sum();
    match size >= page() - SPARE {
        true => shorten(data),
        false => (None, data),
    }
}

/// Makes lower directories relative to the deepest folder that holds them all. Options that cannot
/// be shortened come back as they are.
pub(super) fn shorten(mut data: Vec<String>) -> (Option<PathBuf>, Vec<String>) {
    let Some(option) = data.iter_mut().find(|option| option.starts_with(KEY)) else {
        return (None, data);
    };
    let folders = split(&option[KEY.len()..]);
    let Some(common) = common_folder(&folders) else { return (None, data) };
    let relative: Vec<&str> = folders.iter().map(|folder| below(&common, folder)).collect();
    *option = format!("{KEY}{}", relative.join(":"));
    (Some(PathBuf::from(unescaped(&common))), data)
}

/// Puts another folder in the place of each lower directory, which is told with its number and
/// without escapes. The new path must need none.
pub(super) fn replace_lower(
    data: &mut [String],
    mut with: impl FnMut(usize, &str) -> io::Result<PathBuf>,
) -> io::Result<()> {
    let Some(option) = data.iter_mut().find(|option| option.starts_with(KEY)) else {
        return Ok(());
    };
    let replaced =
        split(&option[KEY.len()..]).into_iter().enumerate().map(|(number, folder)| match folder {
            "" => Ok(String::new()),
            folder => Ok(with(number, &unescaped(folder))?.display().to_string()),
        });
    let replaced = replaced.collect::<io::Result<Vec<_>>>()?.join(":");
    *option = format!("{KEY}{replaced}");
    Ok(())
}

/// Splits at colons, but not at escaped ones. An empty part (`::`) separates data-only layers.
fn split(list: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut from = 0;
    let mut escaped = false;
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b':' if !escaped => {
                parts.push(&list[from..at]);
                from = at + 1;
            }
            _ => {}
        }
        escaped = byte == b'\\' && !escaped;
    }
    parts.push(&list[from..]);
    parts
}

/// The deepest folder above all of them; `None` if one is relative or there is none but `/`.
fn common_folder(folders: &[&str]) -> Option<String> {
    let mut parents = folders.iter().filter(|folder| !folder.is_empty()).map(|folder| {
        let path = Path::new(folder);
        let plain = path.is_absolute()
            && path.components().all(|part| !matches!(part, Component::ParentDir));
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

/// What of `folder` comes after `common`.
fn below<'a>(common: &str, folder: &'a str) -> &'a str {
    let rest = Path::new(folder).strip_prefix(common).ok().and_then(Path::to_str);
    rest.unwrap_or(folder)
}

/// Without overlayfs's escapes, as chdir(2) wants it.
fn unescaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => out.extend(letters.next()),
            letter => out.push(letter),
        }
    }
    out
}

/// mount(2), from `folder` where one is given.
pub(super) fn mount_in(
    folder: Option<&Path>,
    source: &str,
    target: &Path,
    kind: &str,
    flags: MsFlags,
    data: &str,
) -> nix::Result<()> {
    let Some(folder) = folder else { return raw_mount(source, target, kind, flags, data) };
    thread::scope(|scope| {
        let mount = || {
            unshare(CloneFlags::CLONE_FS)?;
            chdir(folder)?;
            raw_mount(source, target, kind, flags, data)
        };
        let thread = thread::Builder::new().name("mount".to_owned()).spawn_scoped(scope, mount);
        let thread = thread.map_err(|error| errno(&error))?;
        // A thread that panicked has not mounted.
        thread.join().unwrap_or(Err(nix::Error::EIO))
    })
}

fn errno(error: &io::Error) -> nix::Error {
    error.raw_os_error().map_or(nix::Error::EAGAIN, nix::Error::from_raw)
}
