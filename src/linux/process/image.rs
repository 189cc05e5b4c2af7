//! The image of a process: what it runs.

use std::{
    fs::File,
    io::{self, ErrorKind},
    path::Path,
};

use nix::errno::Errno;

use super::{super::read::link, lineage_of, stat::Stat, status::Status};
use crate::{
    model::{Args, Grade, Image, Lineage, ProcessKey, Text, UnknownReason},
    sys::file::attributes,
};

/// The most bytes of arguments that are kept of one process: as many as the eBPF programs capture
/// by default.
pub const ARGS_LIMIT: usize = 4096;

/// The most bytes of arguments that are read to count the arguments. If a process has more, the
/// arguments beyond are not counted; the length in bytes is still exact if the kernel reports it in
/// `stat`.
const ARGS_COUNTED_LIMIT: u64 = 256 << 10;

/// What a process runs now, with a grade that says how exact it is.
///
/// [`Grade::Late`]: everything was read, and the process `key` was still alive after that.
/// [`Grade::Partial`]: something is missing, and [`Image::unknown`] has the reason:
/// [`UnknownReason::Gone`] for a process that has ended (also for a zombie), and for a pid that was
/// reused. If the process has executed another program since the event for which it is read, the
/// result is the image of that other program; only the next event shows that there was another
/// exec.
#[must_use]
pub fn image(pid: i32, key: ProcessKey) -> (Image, Grade) {
    let gone =
        || (Image { unknown: Some(UnknownReason::Gone), ..Image::default() }, Grade::Partial);
    let Some(before) = Stat::of(pid).filter(|stat| stat.start() == key.start) else {
        return gone();
    };
    let (image, _) = image_of(pid, &before);
    // The start is read again after everything else, because a process with a reused pid has
    // another start.
    match Stat::of(pid).filter(|stat| stat.start() == key.start) {
        None => gone(),
        Some(after) => graded(image, &after),
    }
}

/// A living process, checked to have been the same from the first read to the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// The identity of the process.
    pub key: ProcessKey,
    /// The parent and grandparent of the process when it was read.
    pub lineage: Lineage,
    /// What the process ran when it was read.
    pub image: Image,
}

/// The process that has this pid, if it is alive. `None` for a zombie, and if the pid was reused
/// while the process was read.
#[must_use]
pub fn alive(pid: i32) -> Option<Alive> {
    let before = Stat::of(pid).filter(|stat| !stat.is_dead())?;
    let (image, status) = image_of(pid, &before);
    let lineage = lineage_of(&before, status.vpid);
    let after = Stat::of(pid)
        .filter(|after| after.start_ticks == before.start_ticks && !after.is_dead())?;
    let (image, _) = graded(image, &after);
    Some(Alive { key: ProcessKey { pid, start: before.start() }, lineage, image })
}

/// The process that has this pid, if it is ending: [`alive`] takes it for dead, because its first
/// thread has ended or is in do_exit(), but it still has a running thread. Nothing of its image can
/// be read. `None` if all its threads have ended.
#[must_use]
pub fn ending(pid: i32) -> Option<Alive> {
    let stat = Stat::of(pid).filter(Stat::has_running_thread)?;
    let lineage = lineage_of(&stat, None);
    let image = Image { unknown: Some(UnknownReason::Gone), ..Image::default() };
    Some(Alive { key: ProcessKey { pid, start: stat.start() }, lineage, image })
}

/// Reads the status of a process, and as much of its image as can be read. Does not check whether
/// the pid was reused meanwhile.
pub(crate) fn image_of(pid: i32, stat: &Stat) -> (Image, Status) {
    let mut unknown = None;
    // The links and the arguments are read first, because they vanish first: when a process begins
    // to end, the kernel removes them together with the memory of the process.
    let args = value_or_reason(args(pid, stat), &mut unknown);
    let exe = format!("/proc/{pid}/exe");
    let executable = value_or_reason(link(&exe), &mut unknown);
    let (executable, executable_deleted) = match executable {
        Some(path) => without_deleted_mark(path, || {
            attributes(Path::new(&exe)).map_or(true, |file| file.links == 0)
        }),
        None => (None, false),
    };
    let directory = value_or_reason(link(&format!("/proc/{pid}/cwd")), &mut unknown);
    // The root directory of the process, which is removed from the two paths if chroot(2) has
    // changed it.
    let root = value_or_reason(link(&format!("/proc/{pid}/root")), &mut unknown);
    let status = Status::of(pid);
    let inside = |path: Box<[u8]>| Text::from(under_root(path, root.as_deref()));
    let image = Image {
        executable: executable.map(inside),
        executable_deleted,
        args,
        working_directory: directory.map(inside),
        comm: Some(stat.comm.clone()),
        uid: status.uid,
        gid: status.gid,
        stack: stat.stack,
        charge: None,
        unknown,
    };
    (image, status)
}

/// An image with its grade, from the `stat` of the process that was read after the image.
pub(crate) fn graded(mut image: Image, after: &Stat) -> (Image, Grade) {
    if after.is_dead() {
        image.unknown = Some(UnknownReason::Gone);
    }
    let grade = if image.unknown.is_some() { Grade::Partial } else { Grade::Late };
    (image, grade)
}

/// The path in a link `/proc/PID/exe`, and whether the file has no directory entry any more. The
/// kernel appends ` (deleted)` to the path of such a file (`d_path`), but the name of a file may
/// also end so.
pub(super) fn without_deleted_mark(
    path: Box<[u8]>,
    is_deleted: impl FnOnce() -> bool,
) -> (Option<Box<[u8]>>, bool) {
    match path.strip_suffix(b" (deleted)") {
        Some(name) if is_deleted() => (Some(name.into()), true),
        _ => (Some(path), false),
    }
}

/// A path as the process sees it. For a process in another mount namespace the kernel already
/// reports such a path. For a process in this mount namespace with a changed root (chroot(2)), the
/// path begins with that root, which is removed here.
pub(super) fn under_root(path: Box<[u8]>, root: Option<&[u8]>) -> Box<[u8]> {
    match root.filter(|root| *root != b"/").and_then(|root| path.strip_prefix(root)) {
        Some([]) => b"/".as_slice().into(),
        Some(below @ [b'/', ..]) => below.into(),
        _ => path,
    }
}

/// The arguments, from the process's memory. A process can overwrite its arguments, so they may
/// differ from those of its exec.
fn args(pid: i32, stat: &Stat) -> io::Result<Args> {
    args_of(File::open(format!("/proc/{pid}/cmdline"))?, stat)
}

/// The arguments in an open `/proc/PID/cmdline`.
pub(super) fn args_of(mut file: impl io::Read, stat: &Stat) -> io::Result<Args> {
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
        // The file is empty for a zombie, a kernel thread, and a process in the middle of an exec.
        // Since Linux 5.18 a process always has an argv[0], so an empty file does not mean "no
        // arguments".
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut args = Args::from_nul_separated(&kept);
    if filled < ARGS_LIMIT {
        return Ok(args);
    }
    let mut ends = kept.iter().filter(|byte| **byte == 0).count() as u64;
    let (mut total, mut last) = (filled as u64, kept.last().copied());
    let mut chunk = [0; 4096];
    while total < ARGS_COUNTED_LIMIT {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(more) => {
                total += more as u64;
                ends += chunk[..more].iter().filter(|byte| **byte == 0).count() as u64;
                last = chunk[..more].last().copied();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The process has ended meanwhile. The part that was read is right, but not complete.
            Err(_) => break,
        }
    }
    args.total_bytes = stat.args_bytes.map_or(total, |length| length.max(total));
    args.count = u32::try_from(ends + u64::from(last != Some(0))).unwrap_or(u32::MAX);
    Ok(args)
}

/// The value of a successful read. After an error: `None`, and the reason is stored in `unknown`,
/// unless `unknown` already has a reason.
fn value_or_reason<T>(value: io::Result<T>, unknown: &mut Option<UnknownReason>) -> Option<T> {
    match value {
        Ok(value) => Some(value),
        Err(error) => {
            unknown.get_or_insert(reason_of(&error));
            None
        }
    }
}

/// Why a part of an image could not be read.
fn reason_of(error: &io::Error) -> UnknownReason {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ESRCH) => UnknownReason::Gone,
        Some(Errno::EACCES | Errno::EPERM) => UnknownReason::Denied,
        _ => UnknownReason::Faulted,
    }
}
