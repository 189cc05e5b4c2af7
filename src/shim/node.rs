//! Helpers: processes of this binary, each of which has one job for the whole node. A helper that
//! is requested with `run` writes `ready` to stdout, or the reason why it failed.
//!
//! ```text
//!  observer's thread ── run(verb) ──► main thread: spawn ──► this binary with the verb
//!         └───────────── reads its stdout ◄──────────────────────┘
//! ```
//!
//! Only the main thread spawns children, and only through the reaper: see [`Reaper::spawn`].

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    process::{Command, Stdio},
    sync::mpsc as blocking,
    time::Duration,
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tokio::sync::mpsc;

use super::Outcome;
use crate::{observe::shim::Helpers, reaper::Reaper, sys::process::SpawnAttr};

/// The longest time that a helper may take until it reports success. Loading the eBPF programs
/// takes 30 ms on an idle machine, and 300 ms on an emulated one.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// What a helper writes to stdout when it has succeeded.
const READY: &str = "ready";

/// Writes the result of a helper's work to stdout, for the shim that spawned the helper.
pub(super) fn report(result: Outcome) -> Outcome {
    let mut stdout = io::stdout();
    match &result {
        Ok(()) => stdout.write_all(READY.as_bytes())?,
        Err(error) => stdout.write_all(super::one_line(&**error).as_bytes())?,
    }
    stdout.flush()?;
    result
}

/// Spawns the helpers that the observer's thread requests. Runs on the main thread.
#[derive(Debug)]
pub(super) struct HelperSpawner {
    reaper: Reaper,
    requests: mpsc::Receiver<HelperRequest>,
}

/// HelperSends requests for helpers to the [`HelperSpawner`]. Used on the observer's thread.
#[derive(Debug)]
pub(super) struct HelperRequests(mpsc::Sender<HelperRequest>);

/// A request to spawn a helper. The reply is the read end of the helper's stdout.
#[derive(Debug)]
struct HelperRequest {
    verb: &'static str,
    reply: blocking::SyncSender<io::Result<OwnedFd>>,
}

/// Creates the two ends of the channel for requests to spawn a helper.
pub(super) fn helper_channel(reaper: Reaper) -> (HelperRequests, HelperSpawner) {
    // A single thread sends the requests and waits for each reply, so a capacity of one is enough.
    // A second request at the same time would be refused.
    let (send, requests) = mpsc::channel(1);
    (HelperRequests(send), HelperSpawner { reaper, requests })
}

impl HelperSpawner {
    /// Spawns a helper for each request, one after the other. Never returns.
    pub(super) async fn run(mut self) {
        while let Some(HelperRequest { verb, reply }) = self.requests.recv().await {
            // The requester may have given up waiting.
            let _ = reply.send(self.spawn(verb));
        }
        std::future::pending().await
    }

    fn spawn(&self, verb: &str) -> io::Result<OwnedFd> {
        let (output, stdout) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        // The binary is not started by its own path, because the file may have been replaced since
        // this process started.
        let mut command = Command::new("/proc/self/exe");
        command.arg(verb).current_dir("/");
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null());
        // The exit of the helper is not needed, because the helper writes its result to stdout.
        drop(
            self.reaper
                .spawn(&mut command, SpawnAttr { new_session: true, ..SpawnAttr::default() })?,
        );
        Ok(output)
    }
}

impl HelperRequests {
    /// Requests that the main thread spawn the helper. Returns the read end of the helper's
    /// stdout.
    fn spawn(&self, verb: &'static str) -> io::Result<OwnedFd> {
        let (reply, answer) = blocking::sync_channel(1);
        self.0.try_send(HelperRequest { verb, reply }).map_err(io::Error::other)?;
        answer.recv_timeout(READY_WITHIN).map_err(io::Error::other)?
    }
}

impl Helpers for HelperRequests {
    fn start(&self, verb: &'static str) -> io::Result<()> {
        self.spawn(verb).map(drop)
    }

    fn run(&self, verb: &'static str) -> io::Result<()> {
        let output = self.spawn(verb)?;
        let timeout = PollTimeout::try_from(READY_WITHIN).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // One read is enough: the helper writes its result with one write(2), which a pipe does not
        // split up to PIPE_BUF bytes.
        let mut buffer = [0; 1024];
        let count = fs::File::from(output).read(&mut buffer)?;
        match String::from_utf8_lossy(&buffer[..count]).as_ref() {
            READY => Ok(()),
            "" => Err(io::Error::other(format!("the helper {verb} ended without output"))),
            reason => Err(io::Error::other(reason.to_owned())),
        }
    }
}
