//! The stdio of one process: an init or an exec.
//!
//! ```text
//!  client's fifo ──────────────► input ─────► pipe ──► 0
//!  client's fifo, file ◄─ sink ◄─ output ◄──── pipe ◄── 1, 2     one task a stream, until its end
//!  client's fifo, file, logger ◄─ sink ◄─ terminal ◄──► master   one task
//!  logger ◄──────────────────────────────────── pipe ◄── 1, 2     no relay at all
//! ```
//!
//! [`ProcessIo::open`] before the runtime runs, [`child`](ProcessIo::child) for its command,
//! [`release`](ProcessIo::release) when it has succeeded, [`begin_input`](ProcessIo::begin_input)
//! when the process is to start, [`exited`](ProcessIo::exited) and [`drain`](ProcessIo::drain) when
//! it is dead; dropped when nobody asks any more.
//!
//! Nothing here waits for a client: not the opening of a fifo, not the writing to it. Nothing here
//! blocks the runtime's thread: fifos and terminals are non-blocking, files are left to the
//! blocking pool. Nothing is thrown away while the process lives, but what a file refuses. An idle
//! stream holds no buffer.
//!
//! The tasks end by themselves: when their stream ends, or when [`ProcessIo`] is gone and what was
//! written until then is delivered, 10 s later at most. They hold descriptors only, so a runtime
//! that is dropped takes them along.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{oneshot, watch},
    time::timeout,
};

use self::{
    console::ConsoleSocket,
    input::Feed,
    output::{QUOTE, Source},
    phase::{Life, Phase},
    sink::Sink,
    target::Target,
};
use crate::{model::Watched, reaper::Reaper, sys};

mod console;
mod error;
mod fifo;
mod file;
mod flow;
mod input;
mod logger;
mod open;
mod output;
mod phase;
mod sink;
mod target;
mod terminal;
#[cfg(test)]
mod tests;

pub use error::IoError;

/// What the client asked for, as it stands in `CreateTaskRequest` and `ExecProcessRequest`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stdio {
    /// Path of a fifo or file; empty for `/dev/null`.
    pub stdin: String,
    /// Path of a fifo or file, or a `file://`, `binary://` or `binary-v2://` URI, which takes
    /// stderr too; empty for `/dev/null`.
    pub stdout: String,
    /// As stdout; not looked at with a terminal, nor beside a URI in stdout.
    pub stderr: String,
    /// Whether the process gets a terminal, for all three.
    pub terminal: bool,
}

/// Who owns the pipes: the `io_uid` and `io_gid` of runc's options. 0 leaves them to the shim's
/// user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// User of the container's ends, as the shim's user namespace counts.
    pub uid: u32,
    /// Their group.
    pub gid: u32,
}

/// What a logger is told of whom it logs.
#[derive(Debug, Clone, Copy)]
pub struct For<'a> {
    /// containerd's namespace, `CONTAINER_NAMESPACE`.
    pub namespace: &'a str,
    /// `CONTAINER_ID`. Of an exec containerd's own shim tells the *exec's* id here: so should the
    /// caller.
    pub container_id: &'a str,
}

/// The runtime's 0, 1 and 2, which the process inherits. `None` is `/dev/null`.
///
/// Whoever holds one of these holds up the end of the stream: drop them, and the command that took
/// them, as soon as the runtime is started.
#[derive(Debug, Default)]
pub struct ChildIo {
    /// Descriptor 0.
    pub stdin: Option<OwnedFd>,
    /// Descriptor 1.
    pub stdout: Option<OwnedFd>,
    /// Descriptor 2.
    pub stderr: Option<OwnedFd>,
}

/// The stdio of one process. Dropped, it ends all relays: what is in a pipe then is still
/// delivered, in the background, if its reader takes it within 10 s; what is held unreleased is
/// not.
#[derive(Debug)]
pub struct ProcessIo {
    /// The tasks' clock. Its end is their end.
    phase: watch::Sender<Phase>,
    /// Each stream that is not drained has a receiver of this.
    undrained: Arc<watch::Sender<()>>,
    child: ChildIo,
    /// What may have to be quoted, stdout first. Empty once released.
    quotable: Vec<Arc<Source>>,
    /// The client's stdin, until [`begin_input`](Self::begin_input).
    input: Option<Input>,
    /// Who is told that input went through.
    tap: OnceLock<Arc<dyn Watched>>,
    /// Our own writer of the client's stdin fifo.
    keep_stdin: Mutex<Option<OwnedFd>>,
    terminal: Terminal,
}

#[derive(Debug)]
enum Terminal {
    /// Pipes, not a terminal.
    None,
    /// The runtime has not handed it over yet.
    Awaited(Box<Awaited>),
    /// The relay owns it, and this while the relay lives.
    Relayed(Weak<AsyncFd<OwnedFd>>),
}

/// Input that nobody reads yet.
#[derive(Debug)]
struct Input {
    path: PathBuf,
    into: Into,
}

/// Where the input will go.
#[derive(Debug)]
enum Into {
    Pipe(AsyncFd<OwnedFd>),
    /// To the task that owns the terminal.
    Terminal(oneshot::Sender<Feed>),
}

#[derive(Debug)]
struct Awaited {
    socket: ConsoleSocket,
    sink: Sink,
    feed: Option<oneshot::Receiver<Feed>>,
    /// Ends with the logger that [`Sink::Logger`] writes to.
    undrained: watch::Receiver<()>,
}

impl ProcessIo {
    /// Prepares everything before the runtime is called. Waits for no client: a fifo is opened
    /// without blocking, both its ends. May wait for a logger, 30 s at most.
    ///
    /// # Errors
    ///
    /// [`IoError`], each naming the path or URI that it is about. Nothing is left behind.
    pub async fn open(
        stdio: &Stdio,
        owner: Owner,
        whom: For<'_>,
        reaper: &Reaper,
    ) -> Result<ProcessIo, IoError> {
        let mut io = ProcessIo {
            phase: watch::Sender::new(Phase::Holding),
            undrained: Arc::new(watch::Sender::new(())),
            child: ChildIo::default(),
            quotable: Vec::new(),
            input: None,
            tap: OnceLock::new(),
            keep_stdin: Mutex::default(),
            terminal: Terminal::None,
        };
        let stdout = Target::parse(&stdio.stdout)?;
        if stdio.terminal {
            io.open_terminal(stdio, &stdout, owner, whom, reaper).await?;
        } else {
            io.prepare_input(stdio, owner)?;
            io.open_outputs(stdio, &stdout, owner, whom, reaper).await?;
        }
        Ok(io)
    }

    /// The descriptors for the runtime. They are there once; later calls give none.
    pub fn child(&mut self) -> ChildIo {
        std::mem::take(&mut self.child)
    }

    /// The path for `--console-socket`, until the terminal came.
    #[must_use]
    pub fn console_socket(&self) -> Option<&Path> {
        match &self.terminal {
            Terminal::Awaited(awaited) => Some(awaited.socket.path()),
            Terminal::None | Terminal::Relayed(_) => None,
        }
    }

    /// Lets the client have the streams: after the runtime's `create`, `exec` or `restore`
    /// succeeded. Receives the terminal first, where there is one.
    ///
    /// # Errors
    ///
    /// [`IoError::Console`] for a runtime that handed over no terminal within 30 s.
    pub async fn release(&mut self) -> Result<(), IoError> {
        if let Terminal::Awaited(awaited) = std::mem::replace(&mut self.terminal, Terminal::None) {
            let Awaited { socket, sink, feed, undrained } = *awaited;
            let master = socket.receive().await.map_err(IoError::Console)?;
            let master = sys::watched(master, Interest::READABLE | Interest::WRITABLE);
            let master = Arc::new(master.map_err(IoError::Console)?);
            self.terminal = Terminal::Relayed(Arc::downgrade(&master));
            let life = Life::new(&self.phase);
            detach(terminal::relay(master, feed, sink, life, undrained));
        }
        self.quotable = Vec::new();
        self.phase.send_if_modified(|phase| advance(phase, Phase::Relaying));
        Ok(())
    }

    /// Lets the client's input in: when the process is to start. Not before: a client takes the
    /// opening of its fifo for the sign that the process is there, writes all it has, and asks for
    /// `CloseIO` just once (`ctr run` of a pipe does, from a task that it must have by then).
    ///
    /// # Errors
    ///
    /// [`IoError::Open`]: what was there when all was prepared is gone. The process finds the end
    /// of its input.
    pub fn begin_input(&mut self) -> Result<(), IoError> {
        let Some(Input { path, into }) = self.input.take() else { return Ok(()) };
        let feed = match fifo::is_fifo(&path) {
            Ok(true) => match fifo::open_input(&path) {
                Ok((read, keep)) => {
                    self.keep_stdin = Mutex::new(Some(keep));
                    Feed::Fifo(read, self.tap.get().cloned())
                }
                Err(source) => return Err(IoError::Open { path, source }),
            },
            Ok(false) => Feed::File(path),
            Err(source) => return Err(IoError::Open { path, source }),
        };
        match into {
            Into::Pipe(pipe) => detach(input::relay(feed, pipe, Life::new(&self.phase))),
            // A terminal that is gone needs no input.
            Into::Terminal(give) => drop(give.send(feed)),
        }
        Ok(())
    }

    /// Tells `watched` of each part of the input, from [`begin_input`](Self::begin_input) on.
    pub fn tell_input(&self, watched: Arc<dyn Watched>) {
        // The first one stays.
        let _ = self.tap.set(watched);
    }

    /// What the runtime printed so far, at most the last 4 KiB of stdout and stderr together,
    /// stderr's last. To be quoted when it failed; empty after [`release`](Self::release), and with
    /// a logger.
    #[must_use]
    pub fn runtime_output(&self) -> String {
        let quotes: Vec<Vec<u8>> = self.quotable.iter().map(|source| source.quote()).collect();
        let all = quotes.concat();
        String::from_utf8_lossy(&all[all.len().saturating_sub(QUOTE)..]).into_owned()
    }

    /// `CloseIO`: the input ends when the clients, too, have closed it. A terminal hangs up a
    /// second after that. Again is as good as once.
    pub fn close_stdin(&self) {
        drop(self.keep_stdin.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Sets the size of the terminal, in characters; without one, does nothing.
    ///
    /// # Errors
    ///
    /// What the kernel answered: `EIO` for a terminal that was hung up.
    pub fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        match &self.terminal {
            Terminal::Relayed(master) => match master.upgrade() {
                Some(master) => sys::pty::set_size(master.get_ref(), width, height),
                None => Ok(()),
            },
            Terminal::None | Terminal::Awaited(_) => Ok(()),
        }
    }

    /// The process is dead: its input ends, and a terminal that nobody has open any more is at its
    /// end. To be called as soon as it is known, since clients wait for the end of their fifos
    /// before they ask for anything else.
    pub fn exited(&self) {
        self.phase.send_if_modified(|phase| advance(phase, Phase::Exited));
    }

    /// Waits until all that the dead process wrote is in the client's fifo or file, or its logger
    /// has ended; at most `within`, for a background child may hold the streams for ever. Answers
    /// whether all was drained. Implies [`exited`](Self::exited).
    pub async fn drain(&self, within: Duration) -> bool {
        self.exited();
        timeout(within, self.undrained.closed()).await.is_ok()
    }

    /// Resolves when nobody holds the output any more and all of it is delivered, or when the
    /// relays were ended; at once where there is no relay.
    pub fn output_ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let undrained = self.undrained.clone();
        async move { undrained.closed().await }
    }

    /// Ends all relays: the same as dropping it.
    pub fn close(self) {}
}

/// A phase never goes back.
fn advance(phase: &mut Phase, to: Phase) -> bool {
    let advances = *phase < to;
    if advances {
        *phase = to;
    }
    advances
}

#[expect(
    clippy::disallowed_methods,
    reason = "it ends with the ProcessIo that began it: see the module"
)]
fn detach(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}
