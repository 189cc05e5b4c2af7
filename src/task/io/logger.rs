//! Loggers: programs that read a process's output (`binary://`).
//!
//! The process writes directly to the logger's pipes. The shim does not see the output, so it
//! cannot quote it in an error. The protocol is that of containerd's `docs/` on logging: the logger
//! reads stdout from descriptor 3 and stderr from descriptor 4, and closes descriptor 5 when it is
//! ready. Its environment has `CONTAINER_ID`, `CONTAINER_NAMESPACE`, and the variables of its URI.
//!
//! A logger is expected to exit when its pipes end; [`ProcessIo::drain`](super::ProcessIo::drain)
//! waits for that. A logger that does not exit is sent `SIGTERM` when
//! [`ProcessIo`](super::ProcessIo) is dropped, and `SIGKILL` 12 s later, in the background.

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

use super::{
    IoError, LoggerIdentity, PipeOwner, destination::Invocation, flow, phase::PhaseReceiver,
};
use crate::{
    reaper::{Child, Reaper},
    sys::{self, process::SpawnAttr},
};

/// The longest time that a logger may take to become ready. containerd's own shim waits without a
/// limit.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// Time from `SIGTERM` to `SIGKILL`, the same as in containerd's own shim.
const KILL_AFTER: Duration = Duration::from_secs(12);

/// The write ends of a running logger's pipes, for the stdout and stderr of the process.
#[derive(Debug)]
pub(super) struct LoggerPipes {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// A running logger. Dropping it sends `SIGTERM`.
#[derive(Debug)]
pub(super) struct Logger {
    child: Child,
    reaper: Reaper,
    /// Whether the logger was reaped or killed, so that its pid must not be used any more.
    ended: bool,
}

impl Logger {
    /// Starts a logger and waits until it is ready.
    pub(super) async fn start(
        invocation: &Invocation,
        owner: PipeOwner,
        container: LoggerIdentity<'_>,
        reaper: &Reaper,
    ) -> Result<(Logger, LoggerPipes), IoError> {
        let (stdout, for_stdout) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr, for_stderr) = pipe2(OFlag::O_CLOEXEC)?;
        owner.chown(&for_stdout)?;
        owner.chown(&for_stderr)?;
        let (ready, for_ready) = pipe2(OFlag::O_CLOEXEC)?;
        flow::set_nonblocking(ready.as_fd(), true).map_err(IoError::Pipe)?;
        let ready = sys::watched(ready, Interest::READABLE).map_err(IoError::Pipe)?;

        let failed = |source| IoError::Logger { program: invocation.program.clone(), source };
        let mut command = Command::new(&invocation.program);
        command
            .args(&invocation.args)
            .env_clear()
            .envs(invocation.env.iter().map(|(key, value)| (key, value)));
        command
            .env("CONTAINER_ID", container.container_id)
            .env("CONTAINER_NAMESPACE", container.namespace);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // In this order the pipes become descriptors 3, 4 and 5 of the logger.
        let attr = SpawnAttr { inherit: vec![stdout, stderr, for_ready], ..SpawnAttr::default() };
        let child = reaper.spawn(&mut command, attr).map_err(failed)?;
        // `command` holds copies of the logger's ends, which would keep the pipes open.
        drop(command);

        let mut logger = Logger { child, reaper: reaper.clone(), ended: false };
        match timeout(READY_TIMEOUT, logger.ready(&ready)).await {
            Ok(true) => Ok((logger, LoggerPipes { stdout: for_stdout, stderr: for_stderr })),
            // `binary` reports readiness by closing the pipe; `binary-v2` must write a byte.
            Ok(false) if !invocation.ready_byte_required => {
                Ok((logger, LoggerPipes { stdout: for_stdout, stderr: for_stderr }))
            }
            Ok(false) | Err(_) => {
                logger.kill();
                Err(IoError::LoggerNotReady { program: invocation.program.clone() })
            }
        }
    }

    /// Waits until the logger reports readiness. Returns `true` for a byte on the pipe, and `false`
    /// if the pipe was closed without a byte or the logger has exited.
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

    /// Waits for the logger to exit, and ends it when the [`ProcessIo`](super::ProcessIo) is
    /// dropped. Drops `undrained` after that.
    pub(super) async fn supervise(
        mut self,
        mut phase: PhaseReceiver,
        undrained: watch::Receiver<()>,
    ) {
        if !self.ended {
            select! {
                _ = &mut self.child.exit => self.ended = true,
                () = phase.closed() => {}
            }
        }
        if !self.ended {
            self.signal(Signal::SIGTERM);
            match timeout(KILL_AFTER, &mut self.child.exit).await {
                Ok(_) => self.ended = true,
                Err(_) => self.kill(),
            }
        }
        drop(undrained);
    }

    fn kill(&mut self) {
        if !self.ended {
            warn!(
                pid = self.child.pid,
                "killed a logging binary: it did not become ready, or did not exit in time"
            );
            // Fails only if the logger has just been reaped.
            let _ = self.reaper.kill_group(self.child.pid);
            self.ended = true;
        }
    }

    fn signal(&self, signal: Signal) {
        // Fails only if the logger has just been reaped, as in `kill`.
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
