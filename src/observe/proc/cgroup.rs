//! Who is in a cgroup, and in which cgroup somebody is.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use super::read::read;

/// How many cgroups below one are looked into; what is deeper or beyond that is not seen by a look.
/// A container decides how many it makes.
const NESTED_LIMIT: usize = 4096;

/// How many members one look can have: the default of `kernel.pid_max`.
pub(super) const MEMBERS_LIMIT: usize = 32_768;

/// The id of a cgroup: the inode number of its folder, which is what the eBPF programs see too.
///
/// # Errors
///
/// `ENOENT` where there is no such folder.
pub fn cgroup_id(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.ino())
}

/// The pids of the thread groups in a cgroup and in those below it, in no order; one of another pid
/// namespace than ours, which reads as 0, is left out.
///
/// # Errors
///
/// `ENOENT` where the cgroup itself is gone. One below that goes meanwhile is no error.
pub fn members(cgroup: &Path) -> io::Result<Vec<i32>> {
    Ok(members_with_place(cgroup)?.into_iter().map(|(pid, _)| pid).collect())
}

/// As [`members`], each with the id of the cgroup that it is in where that is one below.
pub(in crate::observe) fn members_with_place(cgroup: &Path) -> io::Result<Vec<(i32, Option<u64>)>> {
    let mut found = Vec::new();
    collect(cgroup, None, &mut found)?;
    let mut left = folders(cgroup)?;
    let mut looked_into = 0;
    while let Some(folder) = left.pop() {
        looked_into += 1;
        if looked_into > NESTED_LIMIT || found.len() >= MEMBERS_LIMIT {
            break;
        }
        let Ok(id) = cgroup_id(&folder) else { continue };
        // A threaded cgroup (cgroups(7)) refuses the list with EOPNOTSUPP: its processes are in the
        // list of the one above.
        let _ = collect(&folder, Some(id), &mut found);
        left.extend(folders(&folder).unwrap_or_default().into_iter().take(NESTED_LIMIT));
    }
    Ok(found)
}

fn collect(folder: &Path, id: Option<u64>, found: &mut Vec<(i32, Option<u64>)>) -> io::Result<()> {
    let content = fs::read(folder.join("cgroup.procs"))?;
    let pids = content
        .split(|byte| *byte == b'\n')
        .filter_map(|line| str::from_utf8(line).ok()?.parse::<i32>().ok());
    let room = MEMBERS_LIMIT.saturating_sub(found.len());
    found.extend(pids.filter(|pid| *pid > 0).take(room).map(|pid| (pid, id)));
    Ok(())
}

fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let Ok(entry) = entry else { break };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// A cgroup as `/proc/PID/cgroup` names it: in which hierarchy, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// One controller (or `name=systemd`) of a hierarchy of version 1; empty: the unified one.
    controller: Box<[u8]>,
    /// The path under the hierarchy's root, with a leading slash.
    path: Box<[u8]>,
    /// The folder.
    folder: PathBuf,
}

/// Where a process is, next to a [`Place`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Membership {
    /// In the very cgroup.
    Here,
    /// In one below it, of this folder.
    Below(PathBuf),
}

impl Place {
    /// Of a cgroup's folder, by the mount that it is in.
    ///
    /// # Errors
    ///
    /// `ENOENT` where there is no such folder; [`io::ErrorKind::Unsupported`] where it is in no
    /// cgroup file system.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let folder = folder.canonicalize()?;
        let mounts = fs::read("/proc/self/mountinfo")?;
        Self::find(&folder, &mounts).ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// The last mount whose point is above the folder is the one that shows.
    pub(super) fn find(folder: &Path, mountinfo: &[u8]) -> Option<Self> {
        let on_top = mountinfo
            .split(|byte| *byte == b'\n')
            .filter_map(Mount::parse)
            .enumerate()
            .filter(|(_, mount)| folder.starts_with(&mount.point))
            .max_by_key(|(order, mount)| (mount.point.components().count(), *order))?;
        let mount = on_top.1;
        let controller = match mount.kind {
            b"cgroup2" => b"".as_slice(),
            b"cgroup" => {
                mount.options.split(|byte| *byte == b',').find(|option| !is_flag(option))?
            }
            _ => return None,
        };
        let below = folder.strip_prefix(&mount.point).ok()?;
        let mut path = mount.root.as_os_str().as_bytes().to_vec();
        if !below.as_os_str().is_empty() {
            if path.last() != Some(&b'/') {
                path.push(b'/');
            }
            path.extend_from_slice(below.as_os_str().as_bytes());
        }
        Some(Self { controller: controller.into(), path: path.into(), folder: folder.to_owned() })
    }

    /// The cgroup's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether somebody is in this cgroup or below it.
    #[must_use]
    pub fn holds(&self, memberships: &Memberships) -> Option<Membership> {
        let path = memberships.in_hierarchy(&self.controller)?;
        match path.strip_prefix(&*self.path)? {
            [] => Some(Membership::Here),
            [b'/', below @ ..] => {
                Some(Membership::Below(self.folder.join(OsStr::from_bytes(below))))
            }
            // Here the prefix was the root, whose slash is a part of it.
            below if *self.path == *b"/" => {
                Some(Membership::Below(self.folder.join(OsStr::from_bytes(below))))
            }
            // `/ab` is not below `/a`.
            _ => None,
        }
    }
}

/// What a superblock's options say beside the controllers (`cgroup1_show_options`,
/// kernel/cgroup/cgroup-v1.c).
fn is_flag(option: &[u8]) -> bool {
    const FLAGS: [&[u8]; 5] = [b"rw", b"ro", b"noprefix", b"clone_children", b"cpuset_v2_mode"];
    FLAGS.contains(&option)
        || option.starts_with(b"release_agent=")
        || option == b"xattr"
        || option == b"favordynmods"
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
struct Mount<'a> {
    root: PathBuf,
    point: PathBuf,
    kind: &'a [u8],
    options: &'a [u8],
}

impl<'a> Mount<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let separator = line.windows(3).position(|window| window == b" - ")?;
        let mut before = line[..separator].split(|byte| *byte == b' ').skip(3);
        let mut after = line[separator + 3..].split(|byte| *byte == b' ');
        Some(Self {
            root: unescape(before.next()?),
            point: unescape(before.next()?),
            kind: after.next()?,
            options: after.nth(1)?,
        })
    }
}

/// Undoes `\040` and its like (`mangle_path`, fs/seq_file.c).
fn unescape(name: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        match octal.filter(|_| first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsStr::from_bytes(&bytes))
}

/// The cgroups of one process, one a hierarchy (`/proc/PID/cgroup`, cgroups(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memberships(Vec<u8>);

impl Memberships {
    /// Of a process; `None` where it is gone.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        // A line for each hierarchy, and there are at most a dozen; a path is at most a page.
        read(&format!("/proc/{pid}/cgroup"), 16 << 10).ok().map(Self)
    }

    /// From the text.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        Self(text.to_vec())
    }

    /// The path in the hierarchy that has `controller`; in the unified one if that is empty.
    fn in_hierarchy(&self, controller: &[u8]) -> Option<&[u8]> {
        self.0.split(|byte| *byte == b'\n').find_map(|line| {
            let mut fields = line.splitn(3, |byte| *byte == b':');
            let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let it_is = match controller {
                b"" => number == b"0" && controllers.is_empty(),
                _ => controllers.split(|byte| *byte == b',').any(|carried| carried == controller),
            };
            it_is.then_some(path)
        })
    }
}
