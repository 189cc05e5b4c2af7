//! Options of sockets that nix does not have.

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd as _},
};

/// The cookie of the network namespace of a socket (`SO_NETNS_COOKIE`, socket(7)).
///
/// # Errors
///
/// `ENOPROTOOPT` before Linux 5.14.
pub fn namespace_cookie(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut size = libc::socklen_t::try_from(size_of::<u64>()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `size` bytes to `cookie`, which outlives the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    match result {
        0 => Ok(cookie),
        _ => Err(io::Error::last_os_error()),
    }
}
