//! Reads what is known of a process that is to be registered.

use std::{io, os::fd::OwnedFd};

use nix::errno::Errno;

use super::{Refusal, entry::Process, liveness::hold};
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
    only_of: Option<u32>,
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
        let only_of = (!uid.is_root()).then_some(uid.as_raw());
        Ok(Self { redactor, boot, only_of })
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
        let pidfd =
            hold(key, None).map_err(|source| match source.raw_os_error().map(Errno::from_raw) {
                // The id of a thread that is not a thread group leader gives this error too.
                Some(Errno::ESRCH) => Refusal::NoProcess { pid },
                _ => Refusal::Unwatchable { pid, source },
            })?;
        let uid = user(pid);
        if self.only_of.is_some_and(|ours| uid != Some(ours)) {
            return Err(Refusal::Foreign { pid });
        }
        // A zombie has a pidfd too, but must not be registered. Checked after the pidfd was opened,
        // because the process may have ended before.
        if start_ticks(pid).is_none() {
            return Err(Refusal::Ended { pid });
        }
        let (image, _) = image(pid, key);
        let args = match will_run {
            [] => image.args,
            words => Some(Args::from_nul_separated(&[words.join(&0), vec![0]].concat())),
        };
        // The executable of a command that is not executed yet is not known.
        let executable = image.executable.filter(|_| will_run.is_empty());
        let process = self.process(key, uid, executable.as_deref(), image.comm.as_deref(), args);
        let pidfd_inode = pidfd::inode(&pidfd);
        Ok((pidfd, Process { pidfd_inode, ..process }))
    }

    /// The current command line of a process, redacted; empty if it cannot be read.
    #[must_use]
    pub fn command(&self, key: ProcessKey) -> String {
        let (image, _) = image(key.pid, key);
        self.process(key, None, image.executable.as_deref(), image.comm.as_deref(), image.args)
            .command()
    }

    fn process(
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
            // A kernel thread has no arguments. ps(1) shows its name in brackets.
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
