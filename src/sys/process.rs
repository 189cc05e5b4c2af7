//! How a child is made, and what the shim asks of the kernel about itself.

use std::{
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command},
};

/// What a child gets beyond what [`Command`] says.
#[derive(Debug, Default)]
pub struct SpawnAttr {
    /// A session of its own instead of a process group of its own.
    pub new_session: bool,
    /// The child's descriptors 3, 4, … in this order. Ours are closed once the child runs.
    pub inherit: Vec<OwnedFd>,
    /// `SIGKILL` when the thread that spawned it ends (`PR_SET_PDEATHSIG`).
    pub die_with_parent: bool,
    /// The score to write to `/proc/self/oom_score_adj` before exec, where the shim's own differs.
    pub oom_score_adj: Option<i32>,
}

/// Spawns `command` as the leader of a process group (or session) of its own, with default signal
/// handling and no descriptor of ours but 0, 1, 2 and those of [`SpawnAttr::inherit`].
///
/// `die_with_parent` is bound to the *thread* that calls (prctl(2)), so this must run on a thread
/// that lives as long as the process.
///
/// # Errors
///
/// What fork, exec or one of the steps between them answered.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the descriptors are the child's: ours are closed on return"
)]
pub fn spawn(command: &mut Command, attr: SpawnAttr) -> io::Result<Child> {
    if !attr.new_session {
        command.process_group(0);
    }
    let _taken = take_numbers_below(3 + attr.inherit.len())?;
    let mut inherit = Vec::with_capacity(attr.inherit.len());
    for fd in &attr.inherit {
        // Out of the way of the numbers that the child will use.
        inherit
            .push(nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(64)).map(OwnedDup)?);
    }
    let score = attr.oom_score_adj.map(|score| format!("{score}\n").into_bytes());
    let before_exec = move || {
        // Standard library pipes, epoll and sockets are close-on-exec already; this covers what a
        // library or an inherited environment left open (the class of CVE-2024-21626).
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
        if let Some(score) = &score {
            // Refused without CAP_SYS_RESOURCE below the inherited minimum: the child then keeps
            // the shim's score, which is one higher. Not worth a container.
            let _ = write_oom_score(score);
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec; it makes system calls only, on data that was
    // allocated before the fork.
    unsafe { command.pre_exec(before_exec) };
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the place that the reaper spawns through"
    )]
    command.spawn()
}

/// Occupies the free descriptors below `end`, so that the pipe by which the standard library learns
/// of a failed exec is none of the numbers that the child's are put on.
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

/// A raw descriptor that this function made and closes; the child needs only its number.
struct OwnedDup(RawFd);

impl Drop for OwnedDup {
    fn drop(&mut self) {
        let _ = nix::unistd::close(self.0);
    }
}

/// dup2(2); the copy stays open over exec.
fn duplicate_onto(fd: RawFd, number: RawFd) -> io::Result<()> {
    // SAFETY: dup2 on two numbers; in the child before exec nothing else owns `number`.
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

/// Without allocation, for use between fork and exec.
fn write_oom_score(score: &[u8]) -> nix::Result<()> {
    use nix::fcntl::{OFlag, open};
    let file = open(
        c"/proc/self/oom_score_adj",
        OFlag::O_WRONLY | OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )?;
    nix::unistd::write(&file, score).map(drop)
}

/// Makes a core-scheduling domain of this process's group (`SCHED_CORE`, prctl(2), Linux 5.14).
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

/// Keeps the allocator to one arena and lets it give memory back: a shim lives long and idles.
///
/// glibc makes an arena for each thread otherwise, and each costs resident pages for ever.
pub fn use_one_malloc_arena() {
    // SAFETY: mallopt changes parameters of the allocator; called before other threads exist.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 10) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10) };
    // Chunks that are kept apart for quick reuse are merged with each larger free, which in a storm
    // of events is a tenth of the observer's time; the cache of each thread is as quick. SAFETY: as
    // above.
    unsafe { libc::mallopt(libc::M_MXFAST, 0) };
}

/// Returns free heap pages to the kernel.
pub fn trim_heap() {
    // SAFETY: malloc_trim is thread-safe and has no preconditions.
    unsafe { libc::malloc_trim(0) };
}

/// kill(2) with any signal number; nix knows no real-time signals.
///
/// # Errors
///
/// What kill(2) answered: `EINVAL` for a number that is no signal.
pub fn kill(pid: i32, signal: i32) -> nix::Result<()> {
    // SAFETY: kill takes two numbers.
    nix::errno::Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Reaps one child that has ended, if any has: its pid, and its exit code or 128 + its signal.
///
/// nix answers `EINVAL` for a child that a real-time signal ended, after the kernel has forgotten
/// it.
///
/// # Errors
///
/// `ECHILD` without children, `EINTR`.
pub fn reap_one() -> nix::Result<Option<(i32, i32)>> {
    let info = waitid(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG)?;
    // SAFETY: what waitid(2) wrote, or zeroes, is of the kind that has a pid.
    let pid = unsafe { info.si_pid() };
    // SAFETY: and a status.
    let status = unsafe { info.si_status() };
    let status = if info.si_code == libc::CLD_EXITED { status } else { 128 + status };
    Ok((pid != 0).then_some((pid, status)))
}

/// Whether `pid` is a child, living or a zombie.
#[must_use]
pub fn is_child(pid: u32) -> bool {
    waitid(libc::P_PID, pid, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT).is_ok()
}

fn waitid(
    which: libc::idtype_t,
    id: libc::id_t,
    options: libc::c_int,
) -> nix::Result<libc::siginfo_t> {
    // SAFETY: a siginfo_t is numbers and pointers; all zeroes is one.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: waitid writes one siginfo_t through a valid pointer.
    nix::errno::Errno::result(unsafe { libc::waitid(which, id, &raw mut info, options) })?;
    Ok(info)
}

/// Ends this thread alone, without unwinding: the process goes on as long as it has others.
#[cfg(test)]
pub(crate) fn exit_thread() -> ! {
    // SAFETY: the kernel ends the thread in the call; what is on its stack is never used or freed.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!("exit(2) does not return")
}

/// A copy of this process that does `child` on its one thread and ends; for tests, which have
/// threads that the copy lacks: what `child` does must need none of them.
#[cfg(test)]
pub(crate) fn fork_for_test(child: impl FnOnce()) -> nix::unistd::Pid {
    // SAFETY: glibc makes its allocator usable in the copy; no other lock of ours is taken there.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Parent { child } => child,
        nix::unistd::ForkResult::Child => {
            child();
            // SAFETY: ends the process without running what belongs to the original.
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

/// Lets the calling thread run before all ordinary ones, as the lowest of the real-time class
/// (`SCHED_RR` 1, not inherited); where that is refused, with a nice value of -10. For a thread
/// that works little and often, and loses what it does not read in time. Best effort.
pub fn raise_thread_priority() {
    const NICE: i32 = -10;
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: sched_setscheduler reads one struct that lives for the call; 0 is the calling thread.
    let refused = unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_RR | libc::SCHED_RESET_ON_FORK,
            &raw const parameters,
        )
    };
    if refused != 0 {
        // SAFETY: setpriority takes numbers; 0 is the calling thread.
        let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    }
}
