//! A program of classic BPF in front of a socket's buffer (`SO_ATTACH_FILTER`, socket(7)).

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd as _},
};

/// One instruction: `struct sock_filter` of linux/filter.h, as code, jump if true, jump if false,
/// operand.
pub type Instruction = (u16, u8, u8, u32);

/// Puts `program` in front of the buffer: what it answers 0 for never gets there. The kernel checks
/// the program, so a bad one is an error and no danger.
///
/// # Errors
///
/// `EINVAL` for a program that the kernel does not take, `ENOMEM`.
pub fn attach(socket: impl AsFd, program: &[Instruction]) -> io::Result<()> {
    let mut code: Vec<libc::sock_filter> =
        program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let len = u16::try_from(code.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog { len, filter: code.as_mut_ptr() };
    let size =
        libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).map_err(io::Error::other)?;
    // SAFETY: a sock_fprog whose pointer and length are those of a vector that outlives the call;
    // the kernel copies it.
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
