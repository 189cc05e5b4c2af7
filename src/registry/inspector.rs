//! Reads what is known of a process that is to be registered.

use std::{io, os::fd::OwnedFd};

use nix::errno::Errno;

use super::{Refusal, entry::Process, liveness::open_pidfd};
use crate::{
    linux::{
        boot_id,
        process::{identify, image, start_ticks, user},
    },
    model::{Args, ProcessKey, escaped},
    observe::{encode::Clock, redact::Redactor},
    sys::pidfd,
};

/// Reads processes, with their arguments redacted, for a daemon that may be limited to one user.
#[derive(Debug)]
pub struct Inspector {
    redactor: Redactor,
    /// The first 32 bits of the boot id.
    pub boot: u32,
    /// The only user for whom processes may be registered; `None` for root, which may register all.
    allowed_uid: Option<u32>,
}

impl Inspector {
    /// An inspector for the user of this process. For root, processes of all users may be
    /// registered.
    ///
    /// # Errors
    ///
    /// The error of reading the boot id.
    pub fn new(redactor: Redactor) -> io::Result<Self> {
        let boot = boot_id()?;
        let uid = nix::unistd::geteuid();
        let allowed_uid = (!uid.is_root()).then_some(uid.as_raw());
        Ok(Self { redactor, boot, allowed_uid })
    }

    /// Reads a living process and opens a pidfd of it. If `will_run` is not empty, it is the
    /// command line that the process is about to execute, and is used instead of the current one.
    /// Blocks for microseconds, because it reads `/proc`.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if there is no such process, it has ended, it belongs to another user, or no
    /// pidfd of it can be opened.
    pub fn inspect(&self, pid: i32, will_run: &[Vec<u8>]) -> Result<(OwnedFd, Process), Refusal> {
        let key = identify(pid).ok_or(Refusal::NoProcess { pid })?;
        let pidfd = open_pidfd(key, None).map_err(|source| {
            match source.raw_os_error().map(Errno::from_raw) {
                // pidfd_open(2) also gives this error for the id of a thread that is not a thread
                // group leader.
                Some(Errno::ESRCH) => Refusal::NoProcess { pid },
                _ => Refusal::Unwatchable { pid, source },
            }
        })?;
        let uid = user(pid);
        if self.allowed_uid.is_some_and(|ours| uid != Some(ours)) {
            return Err(Refusal::OtherUser { pid });
        }
        // A zombie has a pidfd too, but must not be registered. This is checked only now that the
        // pidfd is open, because the process may have ended before.
        if start_ticks(pid).is_none() {
            return Err(Refusal::Ended { pid });
        }
        let (image, _) = image(pid, key);
        let args = match will_run {
            [] => image.args,
            words => Some(Args::from_nul_separated(&[words.join(&0), vec![0]].concat())),
        };
        // If the process is about to run another command, the executable of this command is not
        // known yet.
        let executable = image.executable.filter(|_| will_run.is_empty());
        let process =
            self.describe_process(key, uid, executable.as_deref(), image.comm.as_deref(), args);
        let pidfd_inode = pidfd::inode(&pidfd);
        Ok((pidfd, Process { pidfd_inode, ..process }))
    }

    /// The current command line of a process, redacted; empty if it cannot be read.
    #[must_use]
    pub fn command_line(&self, key: ProcessKey) -> String {
        let (image, _) = image(key.pid, key);
        self.describe_process(
            key,
            None,
            image.executable.as_deref(),
            image.comm.as_deref(),
            image.args,
        )
        .command_line()
    }

    fn describe_process(
        &self,
        key: ProcessKey,
        uid: Option<u32>,
        executable: Option<&[u8]>,
        comm: Option<&[u8]>,
        args: Option<Args>,
    ) -> Process {
        let args = args.map(|args| self.redactor.redact(args));
        let mut words: Vec<&[u8]> = args.iter().flat_map(Args::iter).collect();
        let name = [b"[", comm.unwrap_or_default(), b"]"].concat();
        if words.is_empty() && comm.is_some() {
            // A kernel thread has no arguments. As ps(1) does, show its name in brackets.
            words.push(&name);
        }
        let is_text = |bytes: &[u8]| str::from_utf8(bytes).is_ok();
        let is_escaped = !words.iter().copied().chain(executable).all(is_text);
        let text = |bytes: &[u8]| match is_escaped {
            true => escaped(bytes),
            false => String::from_utf8_lossy(bytes).into_owned(),
        };
        Process {
            pid: key.pid,
            start_ticks: key.start_ticks(),
            boot: self.boot,
            executable: executable.map(text).unwrap_or_default(),
            command_args: words.iter().map(|word| text(word)).collect(),
            escaped: is_escaped,
            args_truncated: args.as_ref().is_some_and(Args::truncated),
            args_redacted: args.as_ref().is_some_and(|args| args.redacted),
            uid,
            created_ns: Clock::now().created_ns(key),
            pidfd_inode: None,
        }
    }
}
