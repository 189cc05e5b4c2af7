//! Classic BPF filters of sockets (`SO_ATTACH_FILTER`, socket(7)).

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd as _},
};

/// One instruction, `struct sock_filter` of linux/filter.h: code, jump if true, jump if false,
/// operand.
pub type Instruction = (u16, u8, u8, u32);

/// Attaches `program` to a socket. The kernel drops a packet before it reaches the receive buffer
/// if the program returns 0 for it. The kernel verifies the program, so an invalid program is an
/// error and cannot do harm.
///
/// # Errors
///
/// `EINVAL` if the kernel does not accept the program, `ENOMEM`.
pub fn attach(socket: impl AsFd, program: &[Instruction]) -> io::Result<()> {
    let mut code: Vec<libc::sock_filter> =
        program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let len = u16::try_from(code.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog { len, filter: code.as_mut_ptr() };
    let size =
        libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).map_err(io::Error::other)?;
    // SAFETY: pointer and length of the sock_fprog are those of a vector that outlives the call.
    // The kernel copies the program.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
