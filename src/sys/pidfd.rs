//! Descriptors of processes (pidfd_open(2), Linux 5.3).

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

/// A descriptor that becomes readable when the thread group's last thread has ended and has
/// released its files. Closed on exec.
///
/// # Errors
///
/// `ESRCH` for a pid that no process has: a reaped one's, a thread's (of which the kernel says
/// `EINVAL`, or `ENOENT`, by its version), a number that is no pid; `EMFILE`, `ENFILE`.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        let error = io::Error::last_os_error();
        let is_nobodys = matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT));
        return Err(if is_nobodys { io::Error::from_raw_os_error(libc::ESRCH) } else { error });
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The number that no other process of this boot has: the descriptor's inode in pidfs (Linux 6.9).
/// `None` before that, where all descriptors share one.
#[must_use]
pub fn inode(pidfd: impl AsFd) -> Option<u64> {
    // include/uapi/linux/magic.h.
    const PID_FS_MAGIC: libc::c_long = 0x5049_4446;
    let is_pidfs = nix::sys::statfs::fstatfs(&pidfd)
        .is_ok_and(|stat| stat.filesystem_type().0 == PID_FS_MAGIC);
    is_pidfs.then(|| nix::sys::stat::fstat(&pidfd).ok().map(|stat| stat.st_ino)).flatten()
}

/// Sends a signal to the process that the descriptor was opened for, whoever has its pid by now
/// (pidfd_send_signal(2), Linux 5.1). Signal 0 only asks.
///
/// # Errors
///
/// `ESRCH` for a process that was reaped, `EPERM`, `EINVAL` for a number that is no signal.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: pidfd_send_signal takes two numbers, and no siginfo where the pointer is null.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The wait status of a process that was reaped (`PIDFD_GET_INFO` with `PIDFD_INFO_EXIT`, Linux
/// 6.15). `None` while it is not reaped, and on a kernel that does not tell.
#[must_use]
pub fn wait_status(pidfd: impl AsFd) -> Option<u32> {
    // SAFETY: a pidfd_info is numbers; all zeroes is one.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    info.mask = u64::from(libc::PIDFD_INFO_EXIT);
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: the request carries the struct's size, and the kernel writes no more than that
    // through the pointer.
    let result = unsafe { libc::ioctl(fd, libc::PIDFD_GET_INFO, &raw mut info) };
    let is_told = result == 0 && info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
    is_told.then(|| info.exit_code.cast_unsigned())
}
