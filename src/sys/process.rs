//! Spawning, signalling and reaping children, and settings of the shim's own process.

use std::{
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command},
};

use super::nofile;

/// Attributes of a child that cannot be set with [`Command`].
#[derive(Debug, Default)]
pub struct SpawnAttr {
    /// Whether the child gets a session of its own instead of only a process group of its own.
    pub new_session: bool,
    /// The child's descriptors 3, 4, … in this order. They are closed in this process once the
    /// child runs.
    pub inherit: Vec<OwnedFd>,
    /// Whether the kernel kills the child with `SIGKILL` when the spawning thread ends
    /// (`PR_SET_PDEATHSIG`).
    pub die_with_parent: bool,
    /// The OOM score (-1000 to 1000) to write to `/proc/self/oom_score_adj` before exec. `None`:
    /// the child inherits the score of this process.
    pub oom_score_adj: Option<i32>,
}

/// Spawns `command` as the leader of its own process group or session, with default signal handling
/// and without descriptors of this process, except 0, 1, 2 and those of [`SpawnAttr::inherit`].
///
/// `die_with_parent` refers to the calling *thread* (prctl(2)), so this function must run on a
/// thread that lives as long as the process.
///
/// # Errors
///
/// The error of fork, of exec, or of a step between them.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the descriptors belong to the child and are closed here on return"
)]
pub fn spawn(command: &mut Command, attr: SpawnAttr) -> io::Result<Child> {
    if !attr.new_session {
        command.process_group(0);
    }
    let _taken = take_numbers_below(3 + attr.inherit.len())?;
    let mut inherit = Vec::with_capacity(attr.inherit.len());
    for fd in &attr.inherit {
        // The copies have numbers above those that the child will use, so that no dup2 of the child
        // overwrites a descriptor that a later dup2 needs.
        inherit
            .push(nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(64)).map(OwnedDup)?);
    }
    let limits = nofile::of_child();
    let score = attr.oom_score_adj.map(|score| format!("{score}\n").into_bytes());
    let before_exec = move || {
        // The standard library opens pipes, epoll and sockets close-on-exec. This call covers the
        // descriptors that a library or the parent of this process has left open (the class of
        // CVE-2024-21626).
        close_on_exec_from(3)?;
        if attr.new_session {
            nix::unistd::setsid()?;
        }
        for (number, fd) in (3..).zip(&inherit) {
            duplicate_onto(fd.0, number)?;
        }
        if attr.die_with_parent {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        }
        if let Some(limits) = limits {
            // This process has raised its own limit, which the child must not inherit. It fails
            // only in a process that must not change limits at all.
            let _ = nofile::set(limits);
        }
        if let Some(score) = &score {
            // Without CAP_SYS_RESOURCE the kernel refuses a score below the inherited minimum. The
            // child then keeps the shim's score, which is one higher than the one requested. That
            // is not a reason to fail the start of the container.
            let _ = write_oom_score(score);
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec. It makes system calls only, on data that was
    // allocated before the fork.
    unsafe { command.pre_exec(before_exec) };
    #[expect(
        clippy::disallowed_methods,
        reason = "the reaper and `start` spawn through this function"
    )]
    command.spawn()
}

/// Opens all free descriptors below `end`. The pipe through which the standard library reports a
/// failed exec then gets a number that is not below `end`, and is not overwritten by the child's
/// descriptors.
fn take_numbers_below(end: usize) -> io::Result<Vec<OwnedFd>> {
    let mut taken = Vec::new();
    if end <= 3 {
        return Ok(taken);
    }
    loop {
        let fd = OwnedFd::from(std::fs::File::open("/dev/null")?);
        let is_above = usize::try_from(fd.as_raw_fd()).is_ok_and(|number| number >= end);
        taken.push(fd);
        if is_above {
            return Ok(taken);
        }
    }
}

/// A duplicated descriptor that is closed on drop. The closure that runs in the child uses only its
/// number.
struct OwnedDup(RawFd);

impl Drop for OwnedDup {
    fn drop(&mut self) {
        let _ = nix::unistd::close(self.0);
    }
}

/// Duplicates `fd` as `number` with dup2(2). The duplicate stays open across exec.
fn duplicate_onto(fd: RawFd, number: RawFd) -> io::Result<()> {
    // SAFETY: dup2 takes numbers; in the child before exec, `number` has no other owner.
    match unsafe { libc::dup2(fd, number) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Marks every descriptor from `first` up close-on-exec (`close_range(2)`, Linux 5.11).
fn close_on_exec_from(first: libc::c_uint) -> io::Result<()> {
    // SAFETY: close_range with CLOEXEC changes descriptor flags only.
    let result = unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Writes the process's own OOM score. Does not allocate, so it can run between fork and exec.
fn write_oom_score(score: &[u8]) -> nix::Result<()> {
    use nix::fcntl::{OFlag, open};
    let file = open(
        c"/proc/self/oom_score_adj",
        OFlag::O_WRONLY | OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )?;
    nix::unistd::write(&file, score).map(drop)
}

/// Creates a core-scheduling domain for this process's group (`PR_SCHED_CORE`, prctl(2), Linux
/// 5.14).
///
/// # Errors
///
/// `EINVAL` on a kernel without core scheduling, `ENODEV` on a machine without SMT.
pub fn create_core_scheduling_domain() -> io::Result<()> {
    const PR_SCHED_CORE_SCOPE_PROCESS_GROUP: libc::c_ulong = 2;
    // SAFETY: PR_SCHED_CORE_CREATE takes no pointer in this form (the last argument is 0).
    let result = unsafe {
        libc::prctl(
            libc::PR_SCHED_CORE,
            libc::PR_SCHED_CORE_CREATE,
            0,
            PR_SCHED_CORE_SCOPE_PROCESS_GROUP,
            0,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Limits glibc's allocator to one arena and makes it return free memory to the kernel, because a
/// shim runs for a long time and is idle for most of it.
///
/// By default glibc makes an arena for each thread, and the resident pages of an arena are never
/// returned.
pub fn use_one_malloc_arena() {
    // SAFETY: mallopt changes parameters of the allocator, and no other thread exists yet.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 10) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10) };
    // Disables glibc's fastbins. Each free(3) of a large chunk merges the chunks of the fastbins,
    // which takes a tenth of the observer's time in a storm of events. The allocator's cache for
    // each thread is as fast as the fastbins.
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_MXFAST, 0) };
}

/// Returns free heap pages to the kernel.
pub fn trim_heap() {
    // SAFETY: malloc_trim is thread-safe and has no preconditions.
    unsafe { libc::malloc_trim(0) };
}

/// Sends a signal with kill(2). Any signal number is allowed, while nix's `kill` does not accept
/// real-time signals.
///
/// # Errors
///
/// The error of kill(2): `EINVAL` if the number is not a signal.
pub fn kill(pid: i32, signal: i32) -> nix::Result<()> {
    // SAFETY: kill takes two numbers.
    nix::errno::Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// What waitid(2) reports of a child that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// The pid of the child, which the kernel may reuse from now on.
    pub pid: i32,
    /// Whether the child exited; otherwise a signal ended it (`CLD_KILLED`, `CLD_DUMPED`).
    pub exited: bool,
    /// The exit code, or the number of the signal.
    pub status: i32,
}

/// Reaps one child that has ended; `None` if no child has ended.
///
/// # Errors
///
/// `ECHILD` if this process has no children, `EINTR` if a signal interrupted the call.
pub fn reap_one() -> nix::Result<Option<Reaped>> {
    reap_if_ended(libc::P_ALL, 0)
}

/// Reaps this child if it has ended; `None` if it has not.
///
/// # Errors
///
/// `ECHILD` if it is not a child of this process, `EINTR` if a signal interrupted the call.
pub fn reap(pid: i32) -> nix::Result<Option<Reaped>> {
    reap_if_ended(libc::P_PID, pid.cast_unsigned())
}

/// nix's `waitpid` is not used: if a real-time signal ended the child, it reaps the child and then
/// returns `EINVAL`.
fn reap_if_ended(which: libc::idtype_t, id: libc::id_t) -> nix::Result<Option<Reaped>> {
    let info = waitid(which, id, libc::WEXITED | libc::WNOHANG)?;
    // SAFETY: waitid(2) wrote the variant with a pid and a status, or left all zeroes.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let exited = info.si_code == libc::CLD_EXITED;
    Ok((pid != 0).then_some(Reaped { pid, exited, status }))
}

/// Whether `pid` is a child of this process, running or a zombie. Does not reap the child.
#[must_use]
pub fn is_child(pid: u32) -> bool {
    waitid(libc::P_PID, pid, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT).is_ok()
}

fn waitid(
    which: libc::idtype_t,
    id: libc::id_t,
    options: libc::c_int,
) -> nix::Result<libc::siginfo_t> {
    // SAFETY: a siginfo_t has only numbers and pointers, so all zeroes are a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: waitid writes one siginfo_t through a valid pointer.
    nix::errno::Errno::result(unsafe { libc::waitid(which, id, &raw mut info, options) })?;
    Ok(info)
}

/// Ends only this thread, without unwinding. The process continues while it has other threads.
#[cfg(test)]
pub(crate) fn exit_thread(code: i32) -> ! {
    // SAFETY: the kernel ends the thread in the call; what is on its stack is never used or freed.
    unsafe { libc::syscall(libc::SYS_exit, code) };
    unreachable!("exit(2) does not return")
}

/// Forks a copy of this process that runs `child` and then exits. The copy has only the calling
/// thread, so `child` must not wait for any other thread of the test.
#[cfg(test)]
pub(crate) fn fork_for_test(child: impl FnOnce()) -> nix::unistd::Pid {
    // SAFETY: glibc keeps its allocator usable in the child; `child` takes no other lock.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Parent { child } => child,
        nix::unistd::ForkResult::Child => {
            child();
            // SAFETY: ends the process without running the destructors and exit handlers of the
            // original.
            unsafe { libc::_exit(99) }
        }
    }
}

/// Sends a signal to one thread of this process.
#[cfg(test)]
pub(crate) fn signal_thread<T>(thread: &std::thread::JoinHandle<T>, signal: i32) {
    use std::os::unix::thread::JoinHandleExt as _;
    // SAFETY: the handle is not joined, so the thread's id is still its own.
    assert_eq!(unsafe { libc::pthread_kill(thread.as_pthread_t(), signal) }, 0);
}
