//! What a process runs.

use std::{
    fs::File,
    io::{self, ErrorKind, Read as _},
};

use nix::errno::Errno;

use super::{super::read::link, lineage_of, stat::Stat, status::Status};
use crate::model::{Args, Grade, Image, Lineage, ProcessKey, Unknown};

/// How many bytes of arguments are kept, as the eBPF programs do.
pub const ARGS_LIMIT: usize = 4096;

/// How many bytes of arguments are read to count them. What is longer keeps its true length where
/// the kernel tells it, and a count of what was read.
const COUNT_LIMIT: u64 = 256 << 10;

/// What a process runs now, and how far that can be trusted.
///
/// [`Grade::Late`]: everything was read and the pid is still that of `key`, alive.
/// [`Grade::Partial`]: something is missing, and [`Image::unknown`] says why: [`Unknown::Gone`] for
/// a process that has ended, a zombie too, and for a pid that was reused. Whether the process has
/// begun to run something else since the event that made you ask, no file can tell: only the next
/// event can.
#[must_use]
pub fn image(pid: i32, key: ProcessKey) -> (Image, Grade) {
    let gone = || (Image { unknown: Some(Unknown::Gone), ..Image::default() }, Grade::Partial);
    let Some(before) = Stat::of(pid).filter(|stat| stat.start_ticks == key.start_ticks) else {
        return gone();
    };
    let (image, _) = image_of(pid, &before);
    // Read again after everything else: a reused pid has another start.
    match Stat::of(pid).filter(|stat| stat.start_ticks == key.start_ticks) {
        None => gone(),
        Some(after) => judged(image, &after),
    }
}

/// A living process, checked to have been the same from the first read to the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// Its identity.
    pub key: ProcessKey,
    /// Its place in its tree.
    pub lineage: Lineage,
    /// What it runs.
    pub image: Image,
}

/// The process that has this pid, if it is alive. `None` for a zombie, and for a pid that changed
/// hands meanwhile.
#[must_use]
pub fn alive(pid: i32) -> Option<Alive> {
    let before = Stat::of(pid).filter(|stat| !stat.is_dead())?;
    let (image, status) = image_of(pid, &before);
    let lineage = lineage_of(&before, status.vpid);
    let after = Stat::of(pid)
        .filter(|after| after.start_ticks == before.start_ticks && !after.is_dead())?;
    let (image, _) = judged(image, &after);
    Some(Alive { key: ProcessKey { pid, start_ticks: before.start_ticks }, lineage, image })
}

/// Everything that can be read of a process, unchecked, with its status.
pub(crate) fn image_of(pid: i32, stat: &Stat) -> (Image, Status) {
    let mut unknown = None;
    // The likeliest to vanish first: all of these go with the process's memory, at its end.
    let args = known(args(pid, stat), &mut unknown);
    let executable = known(link(&format!("/proc/{pid}/exe")), &mut unknown);
    let directory = known(link(&format!("/proc/{pid}/cwd")), &mut unknown);
    let root = known(link(&format!("/proc/{pid}/root")), &mut unknown);
    let status = Status::of(pid);
    let inside = |path: Box<[u8]>| under_root(path, root.as_deref());
    let image = Image {
        executable: executable.map(inside),
        args,
        working_directory: directory.map(inside),
        comm: Some(stat.comm.clone()),
        uid: status.uid,
        gid: status.gid,
        unknown,
    };
    (image, status)
}

/// The image with its grade, by the state of the process after everything was read.
pub(crate) fn judged(mut image: Image, after: &Stat) -> (Image, Grade) {
    if after.is_dead() {
        image.unknown = Some(Unknown::Gone);
    }
    let grade = if image.unknown.is_some() { Grade::Partial } else { Grade::Late };
    (image, grade)
}

/// A path as the process sees it. In a mount namespace of its own the kernel tells it so already;
/// with a changed root in ours (chroot(2)) it begins with that root.
fn under_root(path: Box<[u8]>, root: Option<&[u8]>) -> Box<[u8]> {
    match root.filter(|root| *root != b"/").and_then(|root| path.strip_prefix(root)) {
        Some([]) => b"/".as_slice().into(),
        Some(below @ [b'/', ..]) => below.into(),
        _ => path,
    }
}

/// The arguments, from the process's memory. They are what the process makes of them: one that
/// writes over its own arguments shows that.
fn args(pid: i32, stat: &Stat) -> io::Result<Args> {
    let mut file = File::open(format!("/proc/{pid}/cmdline"))?;
    let mut kept = vec![0; ARGS_LIMIT];
    let mut filled = 0;
    while filled < kept.len() {
        match file.read(&mut kept[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    kept.truncate(filled);
    if kept.is_empty() {
        // No arguments at all is what a zombie shows, a kernel thread, and a process in the middle
        // of an exec; since Linux 5.18 no process can be begun without argv[0].
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut args = Args::from_nul_separated(&kept);
    if filled < ARGS_LIMIT {
        return Ok(args);
    }
    let mut ends = kept.iter().filter(|byte| **byte == 0).count() as u64;
    let (mut total, mut last) = (filled as u64, kept.last().copied());
    let mut chunk = [0; 4096];
    while total < COUNT_LIMIT {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(more) => {
                total += more as u64;
                ends += chunk[..more].iter().filter(|byte| **byte == 0).count() as u64;
                last = chunk[..more].last().copied();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // It ended meanwhile: what was read is true, and shorter than it was.
            Err(_) => break,
        }
    }
    args.total_bytes = stat.args_bytes.map_or(total, |told| told.max(total));
    args.count = u32::try_from(ends + u64::from(last != Some(0))).unwrap_or(u32::MAX);
    Ok(args)
}

/// The value, or a note why there is none. The first reason stays.
fn known<T>(value: io::Result<T>, unknown: &mut Option<Unknown>) -> Option<T> {
    match value {
        Ok(value) => Some(value),
        Err(error) => {
            unknown.get_or_insert(reason(&error));
            None
        }
    }
}

fn reason(error: &io::Error) -> Unknown {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ESRCH) => Unknown::Gone,
        Some(Errno::EACCES | Errno::EPERM) => Unknown::Denied,
        _ => Unknown::Faulted,
    }
}
