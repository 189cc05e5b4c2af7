//! Id-mapped mounts, which shift the owners of files (mount_setattr(2), `MOUNT_ATTR_IDMAP`, Linux
//! 5.12).

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

/// Creates a user namespace without processes. The maps have the form of `/proc/PID/uid_map`.
///
/// # Errors
///
/// The error of clone(2) or of writing a map: `EPERM` without `CAP_SETUID`, `EINVAL` for a map that
/// the kernel does not accept.
pub fn user_namespace(uid_map: &str, gid_map: &str) -> io::Result<OwnedFd> {
    // A namespace can be configured only through a process in it. The open descriptor keeps the
    // namespace after the process is gone.
    let child = NamespaceChild::new()?;
    fs::write(child.proc("uid_map"), uid_map)?;
    fs::write(child.proc("gid_map"), gid_map)?;
    Ok(fs::File::open(child.proc("ns/user"))?.into())
}

/// Makes a copy of the mount at `path` that shows `path` as its root, shifts the owners of its
/// files by the maps of `namespace`, and mounts the copy at `target`. Mounts below `path` are not
/// copied.
///
/// # Errors
///
/// The error of the kernel: `EINVAL` if the file system does not support id-mapped mounts.
pub fn mount_shifted(path: &Path, target: &Path, namespace: impl AsFd) -> io::Result<()> {
    let (path, target) = (c_string(path)?, c_string(target)?);
    let flags = libc::OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned();
    // SAFETY: the path ends with NUL; the other arguments are numbers.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let tree = RawFd::try_from(checked(tree)?).map_err(io::Error::other)?;
    // SAFETY: open_tree(2) has just created this descriptor, so it has no other owner.
    let tree = unsafe { OwnedFd::from_raw_fd(tree) };
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(namespace.as_fd().as_raw_fd()).map_err(io::Error::other)?,
    };
    // SAFETY: the path ends with NUL, and the pointer is to a mount_attr of the given size.
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
    // SAFETY: both paths end with NUL; the other arguments are numbers.
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

/// A child process in a new user namespace. The child sleeps until this value is dropped, which
/// kills the child.
///
/// Its exit signal is 0 (clone(2)), so its end raises no `SIGCHLD` and only a wait with `__WALL`
/// reaps it. The reaper never sees it.
struct NamespaceChild(Pid);

impl NamespaceChild {
    fn new() -> io::Result<NamespaceChild> {
        // SAFETY: without CLONE_VM this is like fork(2): the child has a copy of all memory,
        // including the stack of this thread.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER, 0, 0, 0, 0) };
        if pid == 0 {
            // The child makes system calls only. Another thread may have held any lock at the
            // clone, such as the allocator's, and nothing in the child would ever release it.
            // SAFETY: prctl takes numbers.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            loop {
                // SAFETY: pause has no arguments and no preconditions.
                unsafe { libc::pause() };
            }
        }
        let pid = i32::try_from(checked(pid)?).map_err(io::Error::other)?;
        Ok(NamespaceChild(Pid::from_raw(pid)))
    }

    fn proc(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0)
    }
}

impl Drop for NamespaceChild {
    fn drop(&mut self) {
        // The pid cannot have been reused, because this child has not been waited for.
        let _ = kill(self.0, Signal::SIGKILL);
        while waitpid(self.0, Some(WaitPidFlag::__WALL)) == Err(nix::Error::EINTR) {}
    }
}
