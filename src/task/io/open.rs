//! Preparing a process's stdio: what [`ProcessIo::open`] does for each kind of it.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use nix::{
    fcntl::OFlag,
    unistd::{Gid, Uid, fchown, pipe2},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{oneshot, watch},
};

use super::{
    Awaited, For, Input, Into, IoError, Owner, ProcessIo, Stdio, Terminal,
    console::ConsoleSocket,
    detach, flow,
    logger::Logger,
    output::{self, Source},
    phase::Life,
    sink::Sink,
    target::{self, Target},
};
use crate::{reaper::Reaper, sys};

impl ProcessIo {
    /// Makes the process's pipe, for a client's path that is there.
    pub(super) fn prepare_input(&mut self, stdio: &Stdio, owner: Owner) -> Result<(), IoError> {
        let Some(path) = input_path(&stdio.stdin)? else { return Ok(()) };
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        owner.give(&read)?;
        self.child.stdin = Some(read);
        self.input =
            Some(Input { path, into: Into::Pipe(nonblocking(write, Interest::WRITABLE)?) });
        Ok(())
    }

    pub(super) async fn open_outputs(
        &mut self,
        stdio: &Stdio,
        stdout: &Target,
        owner: Owner,
        whom: For<'_>,
        reaper: &Reaper,
    ) -> Result<(), IoError> {
        let (stdout, stderr) = match stdout {
            Target::Logger(what) => {
                let (logger, pipes) = Logger::start(what, owner, whom, reaper).await?;
                self.child.stdout = Some(pipes.stdout);
                self.child.stderr = Some(pipes.stderr);
                detach(logger.keep(Life::new(&self.phase), self.undrained.subscribe()));
                return Ok(());
            }
            Target::File(path) => {
                let stdout = Sink::open(path, true).await?;
                let stderr = stdout.share(path)?;
                (Some(stdout), Some(stderr))
            }
            Target::Path(path) => {
                let stdout = Sink::open(path, false).await?;
                let stderr = match Target::parse(&stdio.stderr)? {
                    Target::Path(same) if same == *path => Some(stdout.share(path)?),
                    other => open_sink(&other).await?,
                };
                (Some(stdout), stderr)
            }
            Target::Nothing => (None, open_sink(&Target::parse(&stdio.stderr)?).await?),
        };
        let relay = |io: &mut ProcessIo, sink: Option<Sink>| -> Result<Option<OwnedFd>, IoError> {
            sink.map(|sink| io.begin_output(sink, owner, io.undrained.subscribe())).transpose()
        };
        self.child.stdout = relay(self, stdout)?;
        self.child.stderr = relay(self, stderr)?;
        Ok(())
    }

    pub(super) async fn open_terminal(
        &mut self,
        stdio: &Stdio,
        stdout: &Target,
        owner: Owner,
        whom: For<'_>,
        reaper: &Reaper,
    ) -> Result<(), IoError> {
        let mut feed = None;
        if let Some(path) = input_path(&stdio.stdin)? {
            let (give, given) = oneshot::channel();
            self.input = Some(Input { path, into: Into::Terminal(give) });
            feed = Some(given);
        }
        let socket = ConsoleSocket::bind()?;
        let sink = match stdout {
            Target::Logger(what) => {
                // A terminal has no stderr: that pipe ends at once.
                let (logger, pipes) = Logger::start(what, owner, whom, reaper).await?;
                detach(logger.keep(Life::new(&self.phase), self.undrained.subscribe()));
                Sink::Logger(nonblocking(pipes.stdout, Interest::WRITABLE)?)
            }
            other => open_sink(other).await?.unwrap_or(Sink::Nowhere),
        };
        // The process will have the terminal, so this is the runtime's own, and nobody's to drain.
        let (_, nobodys) = watch::channel(());
        let capture = self.begin_output(Sink::Nowhere, Owner::default(), nobodys)?;
        self.child.stderr = Some(capture.try_clone().map_err(IoError::Pipe)?);
        self.child.stdout = Some(capture);
        let undrained = self.undrained.subscribe();
        self.terminal = Terminal::Awaited(Box::new(Awaited { socket, sink, feed, undrained }));
        Ok(())
    }

    /// Makes a pipe and begins to hold what comes out of it. Returns its write end.
    fn begin_output(
        &mut self,
        sink: Sink,
        owner: Owner,
        undrained: watch::Receiver<()>,
    ) -> Result<OwnedFd, IoError> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        owner.give(&write)?;
        flow::set_nonblocking(&read, true).map_err(IoError::Pipe)?;
        let source = Source::new(read).map_err(IoError::Pipe)?;
        self.quotable.push(Arc::clone(&source));
        detach(output::relay(source, sink, Life::new(&self.phase), undrained));
        Ok(write)
    }
}

impl Owner {
    /// Gives a container's end away. Both ends of a pipe are one inode.
    pub(super) fn give(self, end: impl AsFd) -> Result<(), IoError> {
        if self == Owner::default() {
            return Ok(());
        }
        Ok(fchown(end, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?)
    }
}

/// The path of a client's input, if it asked for one; something must be there.
fn input_path(path: &str) -> Result<Option<PathBuf>, IoError> {
    if path.is_empty() {
        return Ok(None);
    }
    let path = target::absolute(PathBuf::from(path))?;
    match std::fs::metadata(&path) {
        Ok(_) => Ok(Some(path)),
        Err(source) => Err(IoError::Open { path, source }),
    }
}

/// Opens what stands in the place of one stream alone.
async fn open_sink(target: &Target) -> Result<Option<Sink>, IoError> {
    match target {
        Target::Nothing => Ok(None),
        Target::Path(path) => Sink::open(path, false).await.map(Some),
        Target::File(path) => Sink::open(path, true).await.map(Some),
        Target::Logger(_) => Err(IoError::LoggerOnStderr),
    }
}

/// Our end of a pipe. Its other end stays blocking: the two are different open files.
fn nonblocking(end: OwnedFd, interest: Interest) -> Result<AsyncFd<OwnedFd>, IoError> {
    flow::set_nonblocking(&end, true).map_err(IoError::Pipe)?;
    sys::watched(end, interest).map_err(IoError::Pipe)
}
