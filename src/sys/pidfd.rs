//! Descriptors of processes (pidfd_open(2), Linux 5.3).

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
};

/// A descriptor that becomes readable when the thread group's last thread has ended and has released
/// its files. Closed on exec.
///
/// # Errors
///
/// `ESRCH` for a pid that nobody has, a reaped process's too; `EINVAL` for a number that is no pid, and
/// before Linux 6.9 for a thread's; `EMFILE`, `ENFILE`.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
