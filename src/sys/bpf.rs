//! Runs a pinned eBPF program of the type `BPF_PROG_TYPE_SYSCALL` (bpf(2)). libbpf-rs can do this
//! only with the object file that the program was loaded from.

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd as _},
};

/// The command `BPF_PROG_RUN` of bpf(2), in its old spelling.
const BPF_PROG_TEST_RUN: libc::c_long = 10;

/// The attributes of the command: the anonymous structure `test` in `union bpf_attr` of
/// linux/bpf.h.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// Runs the program on the calling thread, with `context` as its argument, and returns the value
/// that the program returns.
///
/// # Errors
///
/// The error of bpf(2): `EPERM` without `CAP_BPF`, `EINVAL` if the program is of another type.
pub fn run_program(program: impl AsFd, context: &mut [u8]) -> io::Result<u32> {
    let mut attributes = Attributes {
        prog_fd: program.as_fd().as_raw_fd().cast_unsigned(),
        ctx_in: context.as_mut_ptr() as u64,
        ctx_size_in: u32::try_from(context.len()).map_err(io::Error::other)?,
        ..Attributes::default()
    };
    // SAFETY: the kernel reads and writes the attributes and the context only during the call, and
    // both outlive it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_TEST_RUN,
            &raw mut attributes,
            size_of::<Attributes>(),
        )
    };
    match result {
        0 => Ok(attributes.retval),
        _ => Err(io::Error::last_os_error()),
    }
}
