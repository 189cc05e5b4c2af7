//! Prepares a process's stdio: the part of [`ProcessIo::open`] for each kind of stream.

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
    AwaitedTerminal, InputDestination, IoError, LoggerIdentity, PipeOwner, PreparedInput,
    ProcessIo, Stdio, Terminal,
    console::ConsoleSocket,
    destination::{self, OutputDestination},
    flow,
    logger::Logger,
    output::{self, Source},
    phase::PhaseReceiver,
    sink::Sink,
    spawn_relay,
};
use crate::{reaper::Reaper, sys};

impl ProcessIo {
    /// Creates the pipe for the process's stdin if the client gave a path. The path must exist;
    /// [`ProcessIo::begin_input`] opens it later.
    pub(super) fn prepare_input(&mut self, stdio: &Stdio, owner: PipeOwner) -> Result<(), IoError> {
        let Some(path) = input_path(&stdio.stdin)? else { return Ok(()) };
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        owner.chown(&read)?;
        self.child.stdin = Some(read);
        self.input = Some(PreparedInput {
            path,
            destination: InputDestination::Pipe(nonblocking(write, Interest::WRITABLE)?),
        });
        Ok(())
    }

    /// Prepares stdout and stderr of a process without a terminal.
    pub(super) async fn open_outputs(
        &mut self,
        stdio: &Stdio,
        stdout: &OutputDestination,
        owner: PipeOwner,
        container: LoggerIdentity<'_>,
        reaper: &Reaper,
    ) -> Result<(), IoError> {
        let (stdout, stderr) = match stdout {
            OutputDestination::Logger(what) => {
                let (logger, pipes) = Logger::start(what, owner, container, reaper).await?;
                self.child.stdout = Some(pipes.stdout);
                self.child.stderr = Some(pipes.stderr);
                // The shim does not relay this output, so a drain waits until the logger has
                // exited.
                spawn_relay(
                    logger.supervise(PhaseReceiver::new(&self.phase), self.undrained.subscribe()),
                );
                return Ok(());
            }
            OutputDestination::File(path) => {
                let stdout = Sink::open(path, true).await?;
                // Both streams use one open file description. Each write(2) appends, so the streams
                // do not overwrite each other.
                let stderr = stdout.share(path)?;
                (Some(stdout), Some(stderr))
            }
            OutputDestination::Path(path) => {
                let stdout = Sink::open(path, false).await?;
                let stderr = match OutputDestination::parse(&stdio.stderr)? {
                    // If both paths are the same, the streams share one open file, for the same
                    // reason as above.
                    OutputDestination::Path(same) if same == *path => Some(stdout.share(path)?),
                    other => open_sink(&other).await?,
                };
                (Some(stdout), stderr)
            }
            OutputDestination::Nothing => {
                (None, open_sink(&OutputDestination::parse(&stdio.stderr)?).await?)
            }
        };
        let relay = |io: &mut ProcessIo, sink: Option<Sink>| -> Result<Option<OwnedFd>, IoError> {
            sink.map(|sink| io.begin_output(sink, owner, io.undrained.subscribe())).transpose()
        };
        self.child.stdout = relay(self, stdout)?;
        self.child.stderr = relay(self, stderr)?;
        Ok(())
    }

    /// Prepares the streams of a process with a terminal. The terminal itself is received later,
    /// from the console socket.
    pub(super) async fn open_terminal(
        &mut self,
        stdio: &Stdio,
        stdout: &OutputDestination,
        owner: PipeOwner,
        container: LoggerIdentity<'_>,
        reaper: &Reaper,
    ) -> Result<(), IoError> {
        let mut feed = None;
        if let Some(path) = input_path(&stdio.stdin)? {
            let (sender, receiver) = oneshot::channel();
            self.input =
                Some(PreparedInput { path, destination: InputDestination::Terminal(sender) });
            feed = Some(receiver);
        }
        let socket = ConsoleSocket::bind()?;
        let sink = match stdout {
            OutputDestination::Logger(what) => {
                // A terminal has no stderr, so the logger's pipe for stderr ends at once.
                let (logger, pipes) = Logger::start(what, owner, container, reaper).await?;
                spawn_relay(
                    logger.supervise(PhaseReceiver::new(&self.phase), self.undrained.subscribe()),
                );
                Sink::Logger(nonblocking(pipes.stdout, Interest::WRITABLE)?)
            }
            other => open_sink(other).await?.unwrap_or(Sink::Discard),
        };
        // The process writes to its terminal, so this pipe captures only the output of the runtime
        // itself. The pipe has an `undrained` channel of its own, because a drain must not wait for
        // this pipe.
        let (_, undrained_capture) = watch::channel(());
        let capture = self.begin_output(Sink::Discard, PipeOwner::default(), undrained_capture)?;
        // Both streams share one pipe, so that a quote has their output in the original order.
        self.child.stderr = Some(capture.try_clone().map_err(IoError::Pipe)?);
        self.child.stdout = Some(capture);
        let undrained = self.undrained.subscribe();
        self.terminal =
            Terminal::Awaited(Box::new(AwaitedTerminal { socket, sink, feed, undrained }));
        Ok(())
    }

    /// Creates a pipe and starts its relay, which buffers the output until the release. Returns the
    /// write end.
    fn begin_output(
        &mut self,
        sink: Sink,
        owner: PipeOwner,
        undrained: watch::Receiver<()>,
    ) -> Result<OwnedFd, IoError> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        owner.chown(&write)?;
        flow::set_nonblocking(&read, true).map_err(IoError::Pipe)?;
        let source = Source::new(read).map_err(IoError::Pipe)?;
        self.quoted_sources.push(Arc::clone(&source));
        spawn_relay(output::relay(source, sink, PhaseReceiver::new(&self.phase), undrained));
        Ok(write)
    }
}

impl PipeOwner {
    /// Changes the owner of the container's end of a pipe. Both ends of a pipe are one inode, so
    /// this also changes the owner of the other end.
    pub(super) fn chown(self, end: impl AsFd) -> Result<(), IoError> {
        if self == PipeOwner::default() {
            return Ok(());
        }
        Ok(fchown(end, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?)
    }
}

/// The path of a client's input; `None` if the client gave no path. An error if no file exists at
/// the path.
fn input_path(path: &str) -> Result<Option<PathBuf>, IoError> {
    if path.is_empty() {
        return Ok(None);
    }
    let path = destination::absolute(PathBuf::from(path))?;
    match std::fs::metadata(&path) {
        Ok(_) => Ok(Some(path)),
        Err(source) => Err(IoError::Open { path, source }),
    }
}

/// Opens the sink of a single stream. `None` for `/dev/null`; an error for a logger, which stdout
/// must name because it takes both streams.
async fn open_sink(destination: &OutputDestination) -> Result<Option<Sink>, IoError> {
    match destination {
        OutputDestination::Nothing => Ok(None),
        OutputDestination::Path(path) => Sink::open(path, false).await.map(Some),
        OutputDestination::File(path) => Sink::open(path, true).await.map(Some),
        OutputDestination::Logger(_) => Err(IoError::LoggerOnStderr),
    }
}

/// Makes the shim's end of a pipe non-blocking and registers it with the async runtime. The
/// container's end stays blocking, because the two ends are different open file descriptions.
fn nonblocking(end: OwnedFd, interest: Interest) -> Result<AsyncFd<OwnedFd>, IoError> {
    flow::set_nonblocking(&end, true).map_err(IoError::Pipe)?;
    sys::watched(end, interest).map_err(IoError::Pipe)
}
