//! Filters of system calls (seccomp(2)).

use std::{io, mem::offset_of};

use super::socket_filter::Instruction;

/// `AUDIT_ARCH_X86_64` or `AUDIT_ARCH_AARCH64` of linux/audit.h; `None` if the lists of calls were
/// not tried on this architecture. A call through another ABI of the machine, in which the numbers
/// mean something else, is in no list.
const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xC000_003E)
} else if cfg!(target_arch = "aarch64") {
    Some(0xC000_00B7)
} else {
    None
};

/// From now on, each system call of the calling thread, and of the threads and processes that it
/// makes, fails with `ENOSYS` unless it is one of `calls` (`SYS_…`).
///
/// `ENOSYS` is what an older kernel answers, so a library that tries a newer call first falls back
/// to an older one. The kernel's audit log has each refused call (`type=1326`).
///
/// The kernel decides once for each number, and then looks it up in a bitmap (Linux 5.11).
///
/// # Errors
///
/// `EACCES` unless `no_new_privs` is set or the thread has `CAP_SYS_ADMIN`, `EINVAL` on a kernel
/// without seccomp and for more than 2000 calls, `Unsupported` on an architecture that has no list.
pub fn allow_only(calls: &[libc::c_long]) -> io::Result<()> {
    let code = program(calls)?;
    let mut code: Vec<libc::sock_filter> =
        code.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let len = u16::try_from(code.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog { len, filter: code.as_mut_ptr() };
    // Without SPEC_ALLOW, Linux before 5.16 slows the thread down against speculation attacks that
    // only matter to a program that runs the code of others.
    let flags = libc::SECCOMP_FILTER_FLAG_LOG | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: the sock_fprog and the instructions that it points to outlive the call. The kernel
    // copies them.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter)
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The filter in classic BPF. Its input is a `struct seccomp_data`.
fn program(calls: &[libc::c_long]) -> io::Result<Vec<Instruction>> {
    let architecture = ARCHITECTURE.ok_or(io::ErrorKind::Unsupported)?;
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let load = |offset: usize| u32::try_from(offset).map(|offset| (LOAD, 0, 0, offset));
    let refuse = (RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned());
    let mut code = vec![
        load(offset_of!(libc::seccomp_data, arch)).map_err(io::Error::other)?,
        (JUMP_IF_EQUAL, 1, 0, architecture),
        refuse,
        load(offset_of!(libc::seccomp_data, nr)).map_err(io::Error::other)?,
    ];
    for call in calls {
        code.push((JUMP_IF_EQUAL, 0, 1, u32::try_from(*call).map_err(io::Error::other)?));
        code.push((RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    }
    code.push(refuse);
    Ok(code)
}
