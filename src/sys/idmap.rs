//! Mounts whose owners are shifted (mount_setattr(2), `MOUNT_ATTR_IDMAP`, Linux 5.12).

use std::{
    ffi::CString,
    fs,
    io::{self, ErrorKind},
    mem::size_of,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

/// A user namespace with the given maps, in the form of `/proc/PID/uid_map`, in which nobody lives.
///
/// # Errors
///
/// What clone(2) or the writing of a map answered: `EPERM` without `CAP_SETUID`, `EINVAL` for a map
/// that the kernel does not take.
pub fn user_namespace(uid_map: &str, gid_map: &str) -> io::Result<OwnedFd> {
    let child = Resident::new()?;
    fs::write(child.proc("uid_map"), uid_map)?;
    fs::write(child.proc("gid_map"), gid_map)?;
    Ok(fs::File::open(child.proc("ns/user"))?.into())
}

/// Copies the mount that `path` is in, from `path` down, shifts its owners, and mounts the copy at
/// `target`. Mounts below are not copied.
///
/// # Errors
///
/// What the kernel answered: `EINVAL` from a file system that cannot be shifted.
pub fn mount_shifted(path: &Path, target: &Path, namespace: impl AsFd) -> io::Result<()> {
    let (path, target) = (c_string(path)?, c_string(target)?);
    let flags = libc::OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned();
    // SAFETY: a path that ends with NUL; the other arguments are numbers.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let tree = RawFd::try_from(checked(tree)?).map_err(io::Error::other)?;
    // SAFETY: open_tree(2) has just made this descriptor for us.
    let tree = unsafe { OwnedFd::from_raw_fd(tree) };
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(namespace.as_fd().as_raw_fd()).map_err(io::Error::other)?,
    };
    // SAFETY: an empty path, and a mount_attr whose size is told.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })?;
    // SAFETY: two paths that end with NUL; the other arguments are numbers.
    checked(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

fn c_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| ErrorKind::InvalidInput.into())
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// A process that does nothing but be in a new user namespace, until this is dropped.
///
/// Its end sends no signal and only `__WALL` waits for it (clone(2): the exit signal is 0), so no
/// other wait of this process ever meets it.
struct Resident(Pid);

impl Resident {
    fn new() -> io::Result<Resident> {
        // SAFETY: as fork(2): the child gets a copy of all memory, and the thread's own stack in
        // it.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER, 0, 0, 0, 0) };
        if pid == 0 {
            // Other threads may have held any lock at the clone: system calls only, for ever.
            // SAFETY: takes numbers.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            loop {
                // SAFETY: takes nothing; killed in it.
                unsafe { libc::pause() };
            }
        }
        let pid = i32::try_from(checked(pid)?).map_err(io::Error::other)?;
        Ok(Resident(Pid::from_raw(pid)))
    }

    fn proc(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0)
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        // Ours and not waited for, so the pid is its own.
        let _ = kill(self.0, Signal::SIGKILL);
        while waitpid(self.0, Some(WaitPidFlag::__WALL)) == Err(nix::Error::EINTR) {}
    }
}
