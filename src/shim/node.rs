//! What the shims of a node share, made by processes of this binary: each does one thing and says
//! `ready`, or why not, on stdout.
//!
//! ```text
//!  observer's thread ── run(verb) ──► main thread: spawn ──► this binary, the verb
//!         └───────────── reads what it says ◄─────────────────────┘
//! ```
//!
//! Only the main thread spawns, because only there the reaper can tell a child from a stranger.

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

/// How long a helper may take to be ready. Loading takes 30 ms on a quiet machine, 10 times that in
/// an emulated one.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// What a helper says when all is well.
const READY: &str = "ready";

/// Says what became of a verb's work, to whoever runs it.
pub(super) fn report(result: Outcome) -> Outcome {
    let mut stdout = io::stdout();
    match &result {
        Ok(()) => stdout.write_all(READY.as_bytes())?,
        Err(error) => stdout.write_all(super::one_line(&**error).as_bytes())?,
    }
    stdout.flush()?;
    result
}

/// Spawns what the observer's thread asks for. Lives on the main thread.
#[derive(Debug)]
pub(super) struct Spawner {
    reaper: Reaper,
    requests: mpsc::Receiver<Request>,
}

/// Asks for it. Lives with the observer.
#[derive(Debug)]
pub(super) struct Requests(mpsc::Sender<Request>);

#[derive(Debug)]
struct Request {
    verb: &'static str,
    reply: blocking::SyncSender<io::Result<OwnedFd>>,
}

/// The two ends. One request at a time is what one thread can make; a second would be refused.
pub(super) fn helpers(reaper: Reaper) -> (Requests, Spawner) {
    let (send, requests) = mpsc::channel(1);
    (Requests(send), Spawner { reaper, requests })
}

impl Spawner {
    /// Spawns for ever.
    pub(super) async fn run(mut self) {
        while let Some(Request { verb, reply }) = self.requests.recv().await {
            // Whoever asked may have given up.
            let _ = reply.send(self.spawn(verb));
        }
        std::future::pending().await
    }

    fn spawn(&self, verb: &str) -> io::Result<OwnedFd> {
        let (says, stdout) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        // Not by its name: the file may have been replaced since this process began.
        let mut command = Command::new("/proc/self/exe");
        command.arg(verb).current_dir("/");
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null());
        // Its end is nobody's news: what it said before is.
        drop(
            self.reaper
                .spawn(&mut command, SpawnAttr { new_session: true, ..SpawnAttr::default() })?,
        );
        Ok(says)
    }
}

impl Requests {
    /// Has the verb started; answers with what it says.
    fn spawn(&self, verb: &'static str) -> io::Result<OwnedFd> {
        let (reply, answer) = blocking::sync_channel(1);
        self.0.try_send(Request { verb, reply }).map_err(io::Error::other)?;
        answer.recv_timeout(READY_WITHIN).map_err(io::Error::other)?
    }
}

impl Helpers for Requests {
    fn start(&self, verb: &'static str) -> io::Result<()> {
        self.spawn(verb).map(drop)
    }

    fn run(&self, verb: &'static str) -> io::Result<()> {
        let says = self.spawn(verb)?;
        let timeout = PollTimeout::try_from(READY_WITHIN).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(says.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut said = [0; 1024];
        let count = fs::File::from(says).read(&mut said)?;
        match String::from_utf8_lossy(&said[..count]).as_ref() {
            READY => Ok(()),
            "" => Err(io::Error::other(format!("{verb} ended without a word"))),
            said => Err(io::Error::other(said.to_owned())),
        }
    }
}
