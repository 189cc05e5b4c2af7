//! Process descriptors (pidfd_open(2), Linux 5.3).

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

/// Opens a pidfd, close-on-exec. It becomes readable when the last thread of the thread group has
/// ended and has released its files.
///
/// # Errors
///
/// `ESRCH` if `pid` is not the pid of a process: the process was reaped, `pid` is the id of another
/// thread than the leader (the kernel returns `EINVAL` or `ENOENT` then, depending on the version),
/// or `pid` is out of range. `EMFILE` or `ENFILE` without a free descriptor.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        let error = io::Error::last_os_error();
        let is_no_process = matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT));
        return Err(if is_no_process { io::Error::from_raw_os_error(libc::ESRCH) } else { error });
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just created this descriptor, so it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The inode number of a pidfd in pidfs (Linux 6.9), which no other process of this boot has.
/// `None` on earlier kernels, where all pidfds share one inode.
#[must_use]
pub fn inode(pidfd: impl AsFd) -> Option<u64> {
    // Defined in include/uapi/linux/magic.h.
    const PID_FS_MAGIC: libc::c_long = 0x5049_4446;
    let is_pidfs = nix::sys::statfs::fstatfs(&pidfd)
        .is_ok_and(|stat| stat.filesystem_type().0 == PID_FS_MAGIC);
    is_pidfs.then(|| nix::sys::stat::fstat(&pidfd).ok().map(|stat| stat.st_ino)).flatten()
}

/// Sends a signal to the process that the pidfd was opened for, even if its pid has been reused
/// since (pidfd_send_signal(2), Linux 5.1). Signal 0 sends nothing and only checks whether the
/// process exists.
///
/// # Errors
///
/// `ESRCH` if the process was reaped, `EPERM` without permission, `EINVAL` if the number is not a
/// signal.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: pidfd_send_signal takes numbers, and a pointer to a siginfo that may be null.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The wait status of a process that was reaped (`PIDFD_GET_INFO` with `PIDFD_INFO_EXIT`, Linux
/// 6.15). `None` if the process is not yet reaped, and on a kernel without this request.
#[must_use]
pub fn wait_status(pidfd: impl AsFd) -> Option<u32> {
    // SAFETY: a pidfd_info has only number fields, so all zeroes are a valid value.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    info.mask = u64::from(libc::PIDFD_INFO_EXIT);
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: the request carries the struct's size, and the kernel writes no more than that
    // through the pointer.
    let result = unsafe { libc::ioctl(fd, libc::PIDFD_GET_INFO, &raw mut info) };
    // The returned mask has the bit only if the kernel provided the exit status.
    let has_status = result == 0 && info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
    has_status.then(|| info.exit_code.cast_unsigned())
}
