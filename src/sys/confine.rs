//! Confines a process that starts no other: it gives up what it does not need.
//!
//! Never for a process that starts something for a container, because a child inherits all of it.

use std::io;

use libc::c_long;

use super::{capabilities, capabilities::Capabilities, seccomp};

/// Confines the calling thread and all threads that it makes later: it keeps only `capabilities`,
/// never gains privileges by an exec (`no_new_privs`), and may use only [`BASE`] and `calls`. Must
/// be called before there is another thread, to confine the process.
///
/// A call that is not allowed fails and does not end the process: see [`seccomp::allow_only`].
///
/// # Errors
///
/// The first error. The other steps have been taken.
pub fn confine(capabilities: Capabilities, calls: &[&[c_long]]) -> io::Result<()> {
    let kept = capabilities::keep_only(capabilities);
    let locked = nix::sys::prctl::set_no_new_privs().map_err(io::Error::from);
    let calls = [&[BASE][..], calls].concat().concat();
    let filtered = seccomp::allow_only(&calls);
    kept.and(locked).and(filtered)
}

/// What every program calls: memory, threads, signals, time, files, and waiting. No way to execute
/// a program, to mount, to enter a namespace, to trace, to change credentials or to open a socket.
pub const BASE: &[c_long] = &[
    // Frequent ones first: before Linux 5.11 the filter is run through for each call.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_futex,
    libc::SYS_close,
    libc::SYS_openat,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_ppoll,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_membarrier,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_prlimit64,
    libc::SYS_prctl,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_epoll_create1,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_flock,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    // Older forms of the above, which other architectures do not have and glibc still uses.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
];

/// Sockets. Which kinds of sockets is not restricted.
pub const SOCKETS: &[c_long] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
];

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    /// Runs `check` in a confined child, which must return from it.
    fn confined(check: impl FnOnce()) {
        let child = super::super::process::fork_for_test(|| {
            confine(Capabilities::KILL, &[&[libc::SYS_wait4]]).unwrap();
            check();
            std::process::exit(0);
        });
        assert_eq!(
            nix::sys::wait::waitpid(child, None).unwrap(),
            nix::sys::wait::WaitStatus::Exited(child, 0)
        );
    }

    /// Check that a confined process has no capabilities but those it keeps, that files, memory and
    /// threads still work, and that it executes nothing and opens no socket.
    #[test]
    fn a_confined_process_can_only_do_what_it_is_for() {
        confined(|| {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                line.trim().to_owned()
            };
            for set in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
                let set = u64::from_str_radix(&line(set), 16).unwrap();
                assert_eq!(set & !(1 << 5), 0, "{set:x}");
            }
            assert_eq!((&*line("NoNewPrivs:"), &*line("Seccomp:")), ("1", "2"));
            assert_eq!(std::thread::spawn(|| vec![7; 1 << 20].len()).join().unwrap(), 1 << 20);
            #[expect(clippy::disallowed_methods, reason = "it is refused")]
            let spawned = Command::new("/bin/true").status();
            assert_eq!(spawned.unwrap_err().raw_os_error(), Some(libc::ENOSYS));
            let socket = std::net::UdpSocket::bind("127.0.0.1:0");
            assert_eq!(socket.unwrap_err().raw_os_error(), Some(libc::ENOSYS));
        });
    }

    /// Check that the bounding set is dropped too, and that what was not there is not gained.
    #[test]
    fn the_bounding_set_follows() {
        confined(|| {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
            let bounding = u64::from_str_radix(bounding.trim(), 16).unwrap();
            let is_root = nix::unistd::geteuid().is_root();
            assert!(!is_root || bounding & !(1 << 5) == 0, "{bounding:x}");
            capabilities::keep_only(Capabilities::KILL | Capabilities::SYS_ADMIN).unwrap();
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
            let effective = u64::from_str_radix(effective.trim(), 16).unwrap();
            assert_eq!(effective & (1 << 21), 0, "{effective:x}");
        });
    }

    /// Check that a filter with too many calls is refused and not cut.
    #[test]
    fn a_filter_has_a_bound() {
        assert!(seccomp::allow_only(&[0; 2100]).is_err());
    }
}
