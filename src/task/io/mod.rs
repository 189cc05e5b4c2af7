//! The stdio of one process: an init or an exec.
//!
//! ```text
//!  client's fifo ──────────────► input ─────► pipe ──► 0
//!  client's fifo, file ◄─ sink ◄─ output ◄──── pipe ◄── 1, 2     one task per stream
//!  client's fifo, file, logger ◄─ sink ◄─ terminal ◄──► master   one task
//!  logger ◄──────────────────────────────────── pipe ◄── 1, 2     no relay
//! ```
//!
//! A caller uses [`ProcessIo`] in this order. [`ProcessIo::open`] runs before the OCI runtime;
//! [`child`](ProcessIo::child) gives the descriptors for the runtime's command;
//! [`release`](ProcessIo::release) follows when that command has succeeded;
//! [`begin_input`](ProcessIo::begin_input) when the process is about to start;
//! [`exited`](ProcessIo::exited) and [`drain`](ProcessIo::drain) when the process is dead. The
//! caller drops it when the process is deleted.
//!
//! Invariants:
//!
//! * Nothing here waits for a client, neither to open a fifo nor to write to it.
//! * Nothing here blocks the thread of the tokio runtime: fifos and terminals are non-blocking,
//!   files are read and written on the blocking pool.
//! * No output of a living process is dropped, except what a file refuses to take.
//! * An idle stream holds no buffer.
//!
//! Each task ends with its stream. If [`ProcessIo`] is dropped earlier, the tasks first deliver
//! what was written until then, for at most 10 s. The tasks own nothing but descriptors, so
//! dropping the tokio runtime ends them as well.

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
    output::{QUOTE_LIMIT, Source},
    phase::{Life, Phase},
    sink::Sink,
    target::Target,
};
use crate::{model::ObservedContainer, reaper::Reaper, sys};

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

/// The streams that a client asks for: the fields of `CreateTaskRequest` and `ExecProcessRequest`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stdio {
    /// Path of a fifo or file; empty for `/dev/null`.
    pub stdin: String,
    /// Path of a fifo or file, or a `file://`, `binary://` or `binary-v2://` URI, which takes
    /// stderr too; empty for `/dev/null`.
    pub stdout: String,
    /// As stdout. Ignored with a terminal, and when stdout is a URI.
    pub stderr: String,
    /// Whether the process gets a terminal as stdin, stdout and stderr.
    pub terminal: bool,
}

/// The owner of the pipes: the `io_uid` and `io_gid` of runc's options. With 0 for both, the pipes
/// stay with the shim's user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// User id of the container's ends of the pipes, in the shim's user namespace.
    pub uid: u32,
    /// Group id of the container's ends of the pipes, in the shim's user namespace.
    pub gid: u32,
}

/// The names that a logger receives in its environment.
#[derive(Debug, Clone, Copy)]
pub struct LoggerIdentity<'a> {
    /// containerd's namespace, for `CONTAINER_NAMESPACE`.
    pub namespace: &'a str,
    /// The id for `CONTAINER_ID`. For an exec, containerd's own shim passes the *exec's* id, and
    /// callers here do the same.
    pub container_id: &'a str,
}

/// Descriptors 0, 1 and 2 of the OCI runtime, which the process inherits. `None` is `/dev/null`.
///
/// A stream does not end while a copy of its descriptor is open. Drop these, and the command that
/// took them, as soon as the runtime has started.
#[derive(Debug, Default)]
pub struct ChildIo {
    /// Descriptor 0; `None` without a client's stdin, and with a terminal.
    pub stdin: Option<OwnedFd>,
    /// Descriptor 1; `None` without a client's stdout. With a terminal, a pipe that captures what
    /// the runtime itself prints.
    pub stdout: Option<OwnedFd>,
    /// Descriptor 2; `None` without a client's stderr. With a terminal, as descriptor 1.
    pub stderr: Option<OwnedFd>,
}

/// The stdio of one process.
///
/// Dropping it ends all relays. What is in a pipe at that time is still delivered in the
/// background, if its reader takes it within 10 s. Output that was held and never released is not
/// delivered.
#[derive(Debug)]
pub struct ProcessIo {
    /// The relays follow this phase. They end when the sender is dropped.
    phase: watch::Sender<Phase>,
    /// Each stream that is not drained yet holds a receiver of this.
    undrained: Arc<watch::Sender<()>>,
    child: ChildIo,
    /// The outputs to quote if the runtime fails, stdout first. Empty after the release.
    quoted_sources: Vec<Arc<Source>>,
    /// The client's stdin. `None` if the client gave none, and after
    /// [`begin_input`](Self::begin_input).
    input: Option<Input>,
    /// Receives a notice for each part of the input that was delivered.
    tap: OnceLock<Arc<dyn ObservedContainer>>,
    /// The shim's own writer of the client's stdin fifo; see [`fifo::open_input`].
    stdin_writer: Mutex<Option<OwnedFd>>,
    terminal: Terminal,
}

#[derive(Debug)]
enum Terminal {
    /// Pipes, not a terminal.
    None,
    /// The runtime has not handed it over yet.
    Awaited(Box<Awaited>),
    /// The relay owns the master. A weak reference, because another owner would keep the terminal
    /// from hanging up.
    Relayed(Weak<AsyncFd<OwnedFd>>),
}

/// Input that is prepared and not opened yet.
#[derive(Debug)]
struct Input {
    path: PathBuf,
    destination: Destination,
}

/// The process's end of the input.
#[derive(Debug)]
enum Destination {
    Pipe(AsyncFd<OwnedFd>),
    /// Delivers the input to the task that owns the terminal.
    Terminal(oneshot::Sender<Feed>),
}

#[derive(Debug)]
struct Awaited {
    socket: ConsoleSocket,
    sink: Sink,
    feed: Option<oneshot::Receiver<Feed>>,
    /// The relay drops this when the output is in the sink.
    undrained: watch::Receiver<()>,
}

impl ProcessIo {
    /// Prepares all streams, before the OCI runtime is called.
    ///
    /// Waits for no client: both ends of a fifo are opened without blocking. May wait for a logger,
    /// 30 s at most.
    ///
    /// # Errors
    ///
    /// [`IoError`], which names the path or URI that failed. Nothing that was opened stays open.
    pub async fn open(
        stdio: &Stdio,
        owner: Owner,
        container: LoggerIdentity<'_>,
        reaper: &Reaper,
    ) -> Result<ProcessIo, IoError> {
        let mut io = ProcessIo {
            phase: watch::Sender::new(Phase::Holding),
            undrained: Arc::new(watch::Sender::new(())),
            child: ChildIo::default(),
            quoted_sources: Vec::new(),
            input: None,
            tap: OnceLock::new(),
            stdin_writer: Mutex::default(),
            terminal: Terminal::None,
        };
        // Parsed first, so that an invalid URI is refused before anything is opened.
        let stdout = Target::parse(&stdio.stdout)?;
        if stdio.terminal {
            io.open_terminal(stdio, &stdout, owner, container, reaper).await?;
        } else {
            io.prepare_input(stdio, owner)?;
            io.open_outputs(stdio, &stdout, owner, container, reaper).await?;
        }
        Ok(io)
    }

    /// Takes the descriptors for the runtime. The first call returns them, later calls return none.
    pub fn child(&mut self) -> ChildIo {
        std::mem::take(&mut self.child)
    }

    /// The path for `--console-socket`. `None` without a terminal, and after
    /// [`release`](Self::release) has received it.
    #[must_use]
    pub fn console_socket(&self) -> Option<&Path> {
        match &self.terminal {
            Terminal::Awaited(awaited) => Some(awaited.socket.path()),
            Terminal::None | Terminal::Relayed(_) => None,
        }
    }

    /// Lets output through to the client. To be called after the runtime's `create`, `exec` or
    /// `restore` has succeeded. If the process has a terminal, this receives it first.
    ///
    /// # Errors
    ///
    /// [`IoError::Console`] if the runtime has handed over no terminal within 30 s.
    pub async fn release(&mut self) -> Result<(), IoError> {
        if let Terminal::Awaited(awaited) = std::mem::replace(&mut self.terminal, Terminal::None) {
            let Awaited { socket, sink, feed, undrained } = *awaited;
            // The phase advances only below: without a terminal the process must not be released.
            let master = socket.receive().await.map_err(IoError::Console)?;
            let master = sys::watched(master, Interest::READABLE | Interest::WRITABLE);
            let master = Arc::new(master.map_err(IoError::Console)?);
            self.terminal = Terminal::Relayed(Arc::downgrade(&master));
            let life = Life::new(&self.phase);
            spawn_relay(terminal::relay(master, feed, sink, life, undrained));
        }
        // Frees the output that was kept to be quoted: from here on it belongs to the container.
        self.quoted_sources = Vec::new();
        self.phase.send_if_modified(|phase| advance(phase, Phase::Relaying));
        Ok(())
    }

    /// Opens the client's input and relays it. To be called when the process is about to start, and
    /// not earlier: a client takes the opening of its fifo as the sign that the process exists,
    /// writes all its input and calls `CloseIO` just once. `ctr run` with a pipe as stdin does so,
    /// through a task that it must have received by then.
    ///
    /// # Errors
    ///
    /// [`IoError::Open`] if the path has been removed since [`open`](Self::open). The process then
    /// reads the end of its input.
    pub fn begin_input(&mut self) -> Result<(), IoError> {
        // Taken here, so a second call cannot open the fifo a second time.
        let Some(Input { path, destination }) = self.input.take() else { return Ok(()) };
        // Checked here, because the path may have been replaced since `open`.
        let feed = match fifo::is_fifo(&path) {
            Ok(true) => match fifo::open_input(&path) {
                Ok((read, writer)) => {
                    self.stdin_writer = Mutex::new(Some(writer));
                    Feed::Fifo(read, self.tap.get().cloned())
                }
                Err(source) => return Err(IoError::Open { path, source }),
            },
            // Opened later by the relay, on the blocking pool: opening a file may wait for a disk.
            Ok(false) => Feed::File(path),
            Err(source) => return Err(IoError::Open { path, source }),
        };
        match destination {
            Destination::Pipe(pipe) => {
                spawn_relay(input::relay(feed, pipe, Life::new(&self.phase)))
            }
            // The send fails only if the terminal's relay has ended, and then there is no reader
            // for the input.
            Destination::Terminal(relay) => drop(relay.send(feed)),
        }
        Ok(())
    }

    /// Notifies `watched` of each part of the input that is delivered. Has an effect only before
    /// [`begin_input`](Self::begin_input), and only the first time.
    pub fn report_input(&self, watched: Arc<dyn ObservedContainer>) {
        // The first call wins; later ones change nothing.
        let _ = self.tap.set(watched);
    }

    /// The last 4 KiB at most of what the runtime has printed to stdout and stderr; stderr's part
    /// is the last. Meant for the error message when the runtime has failed. Empty after
    /// [`release`](Self::release), and with a logger.
    #[must_use]
    pub fn runtime_output(&self) -> String {
        let quotes: Vec<Vec<u8>> =
            self.quoted_sources.iter().map(|source| source.quote()).collect();
        // Cut at the front, so that the end of stderr is always part of the quote.
        let all = quotes.concat();
        String::from_utf8_lossy(&all[all.len().saturating_sub(QUOTE_LIMIT)..]).into_owned()
    }

    /// Handles `CloseIO`: the input ends as soon as the clients have closed it as well. A terminal
    /// hangs up one second after that. Calling it again changes nothing.
    pub fn close_stdin(&self) {
        drop(self.stdin_writer.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Sets the size of the terminal, in characters. Does nothing without a terminal.
    ///
    /// # Errors
    ///
    /// The kernel's error: `EIO` for a terminal that was hung up.
    pub fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        match &self.terminal {
            Terminal::Relayed(master) => match master.upgrade() {
                Some(master) => sys::pty::set_size(master.get_ref(), width, height),
                // The relay has ended and the terminal with it. A late resize is not an error.
                None => Ok(()),
            },
            Terminal::None | Terminal::Awaited(_) => Ok(()),
        }
    }

    /// Reports that the process is dead. Its input ends, and so does a terminal that no other
    /// process has open. To be called as soon as the exit is known, because clients wait for the
    /// end of their fifos before they ask for anything else.
    pub fn exited(&self) {
        self.phase.send_if_modified(|phase| advance(phase, Phase::Exited));
    }

    /// Waits until everything that the dead process wrote is in the client's fifo or file, or until
    /// its logger has ended. Waits for `within` at most, because a background child may hold the
    /// streams for ever. Returns whether everything was drained. Implies [`exited`](Self::exited).
    pub async fn drain(&self, within: Duration) -> bool {
        // Without this, the relay of a terminal waits for its slave to be opened again.
        self.exited();
        // `closed` resolves when the last relay has dropped its receiver.
        timeout(within, self.undrained.closed()).await.is_ok()
    }

    /// Resolves when no process holds the output any more and all of it is delivered, or when the
    /// relays were ended. Resolves at once if there is no relay.
    pub fn output_ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let undrained = self.undrained.clone();
        async move { undrained.closed().await }
    }

    /// Ends all relays. The same as dropping it.
    pub fn close(self) {}
}

/// Advances `phase` to `to`. Returns whether it changed; a phase never goes back.
fn advance(phase: &mut Phase, to: Phase) -> bool {
    let advances = *phase < to;
    if advances {
        *phase = to;
    }
    advances
}

#[expect(
    clippy::disallowed_methods,
    reason = "the task ends with the ProcessIo that spawned it, see the module documentation"
)]
fn spawn_relay(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}
