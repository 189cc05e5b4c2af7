//! File locks: flock(2).

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// A file or directory that is locked until this value is dropped. The kernel also releases the
/// lock when the process ends.
pub type Lock = Flock<File>;

/// Locks an open file for this process alone. `None` if another process has the lock.
///
/// # Errors
///
/// The error of flock(2).
pub fn try_lock(file: File) -> io::Result<Option<Lock>> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// Locks an open file for this process alone; waits while another process has the lock. Blocks.
///
/// # Errors
///
/// The error of flock(2).
pub fn lock(file: File) -> io::Result<Lock> {
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

/// As [`lock`], for at most `time`. Blocks.
///
/// # Errors
///
/// `TimedOut` if another process still has the lock after `time`; otherwise the error of flock(2).
pub fn lock_within(file: File, time: Duration) -> io::Result<Lock> {
    let deadline = Instant::now() + time;
    let lock = lock_unless(file, Duration::from_millis(1), || Instant::now() >= deadline)?;
    lock.ok_or_else(|| io::ErrorKind::TimedOut.into())
}

/// As [`lock`], but tries every `interval`. `None` if `give_up` returns true before the file is
/// locked. Blocks.
///
/// # Errors
///
/// The error of flock(2).
pub fn lock_unless(
    mut file: File,
    interval: Duration,
    mut give_up: impl FnMut() -> bool,
) -> io::Result<Option<Lock>> {
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(lock)),
            Err((file, Errno::EWOULDBLOCK)) => file,
            Err((_, errno)) => return Err(errno.into()),
        };
        if give_up() {
            return Ok(None);
        }
        thread::sleep(interval);
    }
}

/// Opens or creates the file at `path` (mode 0600, no symbolic link) and locks it. `None` if
/// another process has the lock.
///
/// # Errors
///
/// [`PathError`] with the step that failed.
pub fn try_lock_path(path: &Path) -> Result<Option<Lock>, PathError> {
    let failed = |action| move |source| PathError { action, source };
    loop {
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false);
        let file = open.mode(0o600).custom_flags(nix::libc::O_NOFOLLOW).open(path);
        let Some(lock) = try_lock(file.map_err(failed("open"))?).map_err(failed("lock"))? else {
            return Ok(None);
        };
        // The previous owner removes the file when it exits, so the lock may be on a file that has
        // no name any more. Another process would then lock a new file of the same name.
        let locked = lock.metadata().map_err(failed("stat"))?;
        let same = |named: fs::Metadata| (named.dev(), named.ino()) == (locked.dev(), locked.ino());
        if fs::metadata(path).is_ok_and(same) {
            return Ok(Some(lock));
        }
    }
}

/// Why a file could not be locked: the step that failed, and its error.
#[derive(Debug)]
pub struct PathError {
    /// The step that failed, as a verb.
    pub action: &'static str,
    /// The error that the system returned.
    pub source: io::Error,
}

impl From<PathError> for io::Error {
    fn from(error: PathError) -> Self {
        error.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that one process at a time has the lock of a path, also after the file was removed.
    #[test]
    fn a_file_is_locked_once_under_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = try_lock_path(&path).unwrap().expect("it is free");
        assert!(try_lock_path(&path).unwrap().is_none());
        fs::remove_file(&path).unwrap();
        let second = try_lock_path(&path).unwrap().expect("another file has the name now");
        drop(first);
        assert!(try_lock_path(&path).unwrap().is_none(), "the second lock is on the named file");
        drop(second);
        assert!(try_lock_path(&path).unwrap().is_some());
    }

    /// Check that a wait for a lock ends at its deadline.
    #[test]
    fn a_lock_is_waited_for_until_the_deadline() {
        let directory = tempfile::tempdir().unwrap();
        let open = || File::open(directory.path()).unwrap();
        let held = lock(open()).unwrap();
        let error = lock_within(open(), Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(held);
        lock_within(open(), Duration::ZERO).unwrap();
    }
}
