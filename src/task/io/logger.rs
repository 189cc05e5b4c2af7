//! Loggers: programs that read a process's output (`binary://`).
//!
//! The process writes to the logger's pipes itself; nothing is copied here, and nothing of it can
//! be quoted. The protocol is that of containerd's `docs/` on logging: 3 is stdout, 4 is stderr, 5
//! is closed when the logger is ready; the environment is `CONTAINER_ID` and `CONTAINER_NAMESPACE`
//! only.
//!
//! A logger ends by itself when its pipes end: [`ProcessIo::drain`](super::ProcessIo::drain) waits
//! for that. One that stays is asked at the close (`SIGTERM`), and killed 12 s later, in the
//! background.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{fcntl::OFlag, sys::signal::Signal, unistd::pipe2};
use tokio::{
    io::{Interest, unix::AsyncFd},
    select,
    sync::watch,
    time::timeout,
};
use tracing::warn;

use super::{For, IoError, Owner, flow, phase::Life, target::Invocation};
use crate::{
    reaper::{Child, Reaper},
    sys::{self, process::SpawnAttr},
};

/// How long a logger may take to get ready. containerd's own shim waits for ever.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// From `SIGTERM` to `SIGKILL`, as containerd's own shim has it.
const GRACE: Duration = Duration::from_secs(12);

/// The write ends of a running logger's pipes.
#[derive(Debug)]
pub(super) struct Pipes {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// A logger that runs. Dropped, it is asked to leave.
#[derive(Debug)]
pub(super) struct Logger {
    child: Child,
    reaper: Reaper,
    ended: bool,
}

impl Logger {
    /// Starts a logger and waits until it is ready.
    pub(super) async fn start(
        what: &Invocation,
        owner: Owner,
        whom: For<'_>,
        reaper: &Reaper,
    ) -> Result<(Logger, Pipes), IoError> {
        let (stdout, for_stdout) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr, for_stderr) = pipe2(OFlag::O_CLOEXEC)?;
        owner.give(&for_stdout)?;
        owner.give(&for_stderr)?;
        let (ready, for_ready) = pipe2(OFlag::O_CLOEXEC)?;
        flow::set_nonblocking(ready.as_fd(), true).map_err(IoError::Pipe)?;
        let ready = sys::watched(ready, Interest::READABLE).map_err(IoError::Pipe)?;

        let failed = |source| IoError::Logger { program: what.program.clone(), source };
        let mut command = Command::new(&what.program);
        command.args(&what.args).env_clear().envs(what.env.iter().map(|(key, value)| (key, value)));
        command.env("CONTAINER_ID", whom.container_id).env("CONTAINER_NAMESPACE", whom.namespace);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let attr = SpawnAttr { inherit: vec![stdout, stderr, for_ready], ..SpawnAttr::default() };
        let child = reaper.spawn(&mut command, attr).map_err(failed)?;
        // It holds copies of what the logger got.
        drop(command);

        let mut logger = Logger { child, reaper: reaper.clone(), ended: false };
        match timeout(READY_WITHIN, logger.ready(&ready)).await {
            Ok(true) => Ok((logger, Pipes { stdout: for_stdout, stderr: for_stderr })),
            Ok(false) if !what.must_say_ready => {
                Ok((logger, Pipes { stdout: for_stdout, stderr: for_stderr }))
            }
            Ok(false) | Err(_) => {
                logger.kill();
                Err(IoError::LoggerNotReady { program: what.program.clone() })
            }
        }
    }

    /// Waits for a byte on the pipe (`true`), for its end, or for the logger's own.
    async fn ready(&mut self, pipe: &AsyncFd<OwnedFd>) -> bool {
        select! {
            biased;
            byte = pipe.readable() => {
                byte.is_ok_and(|byte| matches!(flow::read_now(byte.get_inner(), &mut [0]), Ok(1)))
            }
            _ = &mut self.child.exit => {
                self.ended = true;
                false
            }
        }
    }

    /// Waits for the logger's end, and ends it when all is closed. `undrained` is dropped at its
    /// end.
    pub(super) async fn keep(mut self, mut life: Life, undrained: watch::Receiver<()>) {
        if !self.ended {
            select! {
                _ = &mut self.child.exit => self.ended = true,
                () = life.closed() => {}
            }
        }
        if !self.ended {
            self.signal(Signal::SIGTERM);
            match timeout(GRACE, &mut self.child.exit).await {
                Ok(_) => self.ended = true,
                Err(_) => self.kill(),
            }
        }
        drop(undrained);
    }

    fn kill(&mut self) {
        if !self.ended {
            warn!(pid = self.child.pid, "logging binary killed");
            // Fails only when its end has just been reaped.
            let _ = self.reaper.kill_group(self.child.pid);
            self.ended = true;
        }
    }

    fn signal(&self, signal: Signal) {
        // As above.
        let _ = self.reaper.signal(self.child.pid, signal);
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        if !self.ended {
            self.signal(Signal::SIGTERM);
        }
    }
}
