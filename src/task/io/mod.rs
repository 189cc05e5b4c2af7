//! The stdio of one process: an init or an exec.
//!
//! ```text
//!  client's fifo ──────────────► input ─────► pipe ──► 0
//!  client's fifo, file ◄─ sink ◄─ output ◄──── pipe ◄── 1, 2     one task per stream
//!  client's fifo, file, logger ◄─ sink ◄─ terminal ◄──► master   one task
//!  logger ◄──────────────────────────────────── pipe ◄── 1, 2     no relay
//! ```
//!
//! A caller calls the methods of [`ProcessIo`] in this order: [`open`](ProcessIo::open) before the
//! OCI runtime is run; [`child`](ProcessIo::child) for the descriptors of the runtime's command;
//! [`release`](ProcessIo::release) when that command has succeeded;
//! [`begin_input`](ProcessIo::begin_input) when the process is about to start;
//! [`exited`](ProcessIo::exited) and [`drain`](ProcessIo::drain) when the process is dead. It drops
//! the [`ProcessIo`] when the process is deleted.
//!
//! Invariants:
//!
//! * No request waits for a client, neither for one that opens a fifo nor for one that reads it.
//! * No function blocks the thread of the tokio runtime: fifos and terminals are non-blocking, and
//!   files are read and written on other threads
//!   ([`workers`](crate::workers)).
//! * No output of a living process is dropped, except bytes that a file cannot take for long.
//! * An idle stream holds no buffer.
//!
//! Each async task ends with its stream. If [`ProcessIo`] is dropped earlier, the tasks first
//! deliver what was written before that, for at most 10 s. The tasks own only descriptors, so
//! dropping the tokio runtime also ends them.

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
    destination::OutputDestination,
    input::InputSource,
    output::{QUOTE_LIMIT, Source},
    phase::{Phase, PhaseReceiver},
    sink::Sink,
};
use crate::{model::ObservedContainer, reaper::Reaper, sys};

mod console;
mod destination;
mod error;
mod fifo;
mod file;
mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod input;
mod logger;
mod open;
mod output;
mod phase;
mod sink;

mod terminal;
#[cfg(test)]
mod tests;

pub use error::IoError;

/// The streams that a client requests: the fields of `CreateTaskRequest` and `ExecProcessRequest`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stdio {
    /// Path of a fifo or file; empty for `/dev/null`.
    pub stdin: String,
    /// Path of a fifo or file, or a `file://`, `binary://` or `binary-v2://` URI, which receives
    /// stderr as well; empty for `/dev/null`.
    pub stdout: String,
    /// The destination of stderr, in the same form as `stdout`. Ignored with a terminal, and if
    /// stdout is a URI.
    pub stderr: String,
    /// Whether the process gets a terminal as stdin, stdout and stderr.
    pub terminal: bool,
}

/// The user and group that own the container's ends of the pipes: `io_uid` and `io_gid` of runc's
/// options. If both are 0, the owner of the pipes is not changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PipeOwner {
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
/// A stream does not end while a copy of its descriptor is open. Drop these descriptors, and the
/// command that contains them, as soon as the runtime has started.
#[derive(Debug, Default)]
pub struct ChildIo {
    /// Descriptor 0; `None` if the client gave no stdin, and with a terminal.
    pub stdin: Option<OwnedFd>,
    /// Descriptor 1; `None` if the client gave no stdout. With a terminal, a pipe that captures the
    /// output of the runtime itself.
    pub stdout: Option<OwnedFd>,
    /// Descriptor 2; `None` if the client gave no stderr. With a terminal, the same pipe as
    /// descriptor 1.
    pub stderr: Option<OwnedFd>,
}

/// The stdio of one process.
///
/// Dropping it ends all relays. Bytes that are in a pipe at that time are still delivered in the
/// background, if their reader reads them within 10 s. Output that was buffered and never released
/// is not delivered.
#[derive(Debug)]
pub struct ProcessIo {
    /// The phase, which the relays watch. They end when this sender is dropped.
    phase: watch::Sender<Phase>,
    /// Each stream that is not drained yet holds a receiver of this channel.
    undrained: Arc<watch::Sender<()>>,
    child: ChildIo,
    /// The outputs to quote if the runtime fails, stdout first. Empty after the release.
    quoted_sources: Vec<Arc<Source>>,
    /// The client's stdin. `None` if the client gave none, and after
    /// [`begin_input`](Self::begin_input).
    input: Option<PreparedInput>,
    /// The object that is notified of each part of the input that was delivered.
    input_observer: OnceLock<Arc<dyn ObservedContainer>>,
    /// The shim's own write end of the client's stdin fifo; see [`fifo::open_input`].
    stdin_writer: Mutex<Option<OwnedFd>>,
    terminal: Terminal,
}

/// The terminal of a process, if it has one.
#[derive(Debug)]
enum Terminal {
    /// The process has pipes and no terminal.
    None,
    /// The runtime has not sent the terminal yet.
    Awaited(Box<AwaitedTerminal>),
    /// The master of the terminal, which the relay owns. The reference is weak, because another
    /// owner would keep the terminal from hanging up.
    Relayed(Weak<AsyncFd<OwnedFd>>),
}

/// The client's input, which is opened when the process is about to start.
#[derive(Debug)]
struct PreparedInput {
    path: PathBuf,
    destination: InputDestination,
}

/// The process's end of the input.
#[derive(Debug)]
enum InputDestination {
    Pipe(AsyncFd<OwnedFd>),
    /// Delivers the input to the task that owns the terminal.
    Terminal(oneshot::Sender<InputSource>),
}

/// The console socket on which the runtime will send the terminal, and what its relay will need.
#[derive(Debug)]
struct AwaitedTerminal {
    socket: ConsoleSocket,
    sink: Sink,
    feed: Option<oneshot::Receiver<InputSource>>,
    /// The relay drops this receiver when all output is in the sink.
    undrained: watch::Receiver<()>,
}

impl ProcessIo {
    /// Prepares all streams. To be called before the OCI runtime is run.
    ///
    /// Does not wait for a client, because both ends of a fifo are opened without blocking. May
    /// wait for a logger, 30 s at most.
    ///
    /// # Errors
    ///
    /// [`IoError`], which names the path or URI that caused it. All that was opened is closed
    /// again.
    pub async fn open(
        stdio: &Stdio,
        owner: PipeOwner,
        container: LoggerIdentity<'_>,
        reaper: &Reaper,
    ) -> Result<ProcessIo, IoError> {
        let mut io = ProcessIo {
            phase: watch::Sender::new(Phase::Buffering),
            undrained: Arc::new(watch::Sender::new(())),
            child: ChildIo::default(),
            quoted_sources: Vec::new(),
            input: None,
            input_observer: OnceLock::new(),
            stdin_writer: Mutex::default(),
            terminal: Terminal::None,
        };
        // The destination is parsed first, so that an invalid URI is refused before anything is
        // opened.
        let stdout = OutputDestination::parse(&stdio.stdout)?;
        if stdio.terminal {
            io.open_terminal(stdio, &stdout, owner, container, reaper).await?;
        } else {
            io.prepare_input(stdio, owner)?;
            io.open_outputs(stdio, &stdout, owner, container, reaper).await?;
        }
        Ok(io)
    }

    /// Takes the descriptors for the runtime. Only the first call returns them.
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

    /// Releases the output to the client. To be called after the runtime's `create`, `exec` or
    /// `restore` has succeeded. If the process has a terminal, `release` first receives it from the
    /// runtime.
    ///
    /// # Errors
    ///
    /// [`IoError::Console`] if no usable terminal was received from the runtime within 30 s.
    pub async fn release(&mut self) -> Result<(), IoError> {
        if let Terminal::Awaited(awaited) = std::mem::replace(&mut self.terminal, Terminal::None) {
            let AwaitedTerminal { socket, sink, feed, undrained } = *awaited;
            // The phase advances only below: if no terminal is received, the output must not be
            // released.
            let master = socket.receive().await.map_err(IoError::Console)?;
            let master = sys::watched(master, Interest::READABLE | Interest::WRITABLE);
            let master = Arc::new(master.map_err(IoError::Console)?);
            self.terminal = Terminal::Relayed(Arc::downgrade(&master));
            let phase = PhaseReceiver::new(&self.phase);
            spawn_relay(terminal::relay(master, feed, sink, phase, undrained));
        }
        // Frees the output that was kept to be quoted, because all output from here on is the
        // container's.
        self.quoted_sources = Vec::new();
        self.phase.send_if_modified(|phase| advance(phase, Phase::Relaying));
        Ok(())
    }

    /// Opens the client's input and relays it. To be called when the process is about to start, and
    /// not earlier: when its fifo is opened, a client assumes that the process exists, writes all
    /// its input and calls `CloseIO` only once. `ctr run` with a pipe as stdin does so; it can call
    /// `CloseIO` only after Create has returned.
    ///
    /// # Errors
    ///
    /// [`IoError::Open`] if the path has been removed since [`open`](Self::open). The process then
    /// reads the end of its input.
    pub fn begin_input(&mut self) -> Result<(), IoError> {
        // The input is taken, so that a second call does not open the fifo again.
        let Some(PreparedInput { path, destination }) = self.input.take() else { return Ok(()) };
        // The type is checked here, because the path may have been replaced since `open`.
        let feed = match fifo::is_fifo(&path) {
            Ok(true) => match fifo::open_input(&path) {
                Ok((read, writer)) => {
                    self.stdin_writer = Mutex::new(Some(writer));
                    InputSource::Fifo(read, self.input_observer.get().cloned())
                }
                Err(source) => return Err(IoError::Open { path, source }),
            },
            // The relay opens the file later on another thread, because opening a file may wait
            // for a disk.
            Ok(false) => InputSource::File(path),
            Err(source) => return Err(IoError::Open { path, source }),
        };
        match destination {
            InputDestination::Pipe(pipe) => {
                spawn_relay(input::relay(feed, pipe, PhaseReceiver::new(&self.phase)))
            }
            // Sending fails only if the terminal's relay has ended. In that case no process can
            // read the input.
            InputDestination::Terminal(relay) => drop(relay.send(feed)),
        }
        Ok(())
    }

    /// Notifies `watched` of each part of the input that is delivered. Has an effect only before
    /// [`begin_input`](Self::begin_input), and only the first time.
    pub fn report_input(&self, watched: Arc<dyn ObservedContainer>) {
        // The first call sets the object. Later calls change nothing.
        let _ = self.input_observer.set(watched);
    }

    /// The last bytes, at most 4 KiB, of the runtime's stdout followed by its stderr. For the error
    /// message if the runtime has failed. Empty after [`release`](Self::release), and with a
    /// logger.
    #[must_use]
    pub fn runtime_output(&self) -> String {
        let quotes: Vec<Vec<u8>> =
            self.quoted_sources.iter().map(|source| source.quote()).collect();
        // The beginning is cut off, so that the end of stderr is always part of the quote.
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
    /// The kernel's error, for example `EIO` for a terminal that was hung up.
    pub fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        match &self.terminal {
            Terminal::Relayed(master) => match master.upgrade() {
                Some(master) => sys::pty::set_size(master.get_ref(), width, height),
                // The relay has ended, which has closed the terminal. A late resize is not an
                // error.
                None => Ok(()),
            },
            Terminal::None | Terminal::Awaited(_) => Ok(()),
        }
    }

    /// Reports that the process is dead. This ends its input, and its terminal if no other process
    /// has the terminal open. To be called as soon as the exit is known, because clients wait for
    /// the end of their fifos before they make further requests.
    pub fn exited(&self) {
        self.phase.send_if_modified(|phase| advance(phase, Phase::Exited));
    }

    /// Waits until all output of the dead process is in the client's fifo or file, or until its
    /// logger has exited. Waits for `within` at most, because a background child may hold the
    /// streams open without a limit. Returns whether all output was drained. Also does what
    /// [`exited`](Self::exited) does.
    pub async fn drain(&self, within: Duration) -> bool {
        // Without this call, the relay of a terminal would wait until a process opens the slave
        // again.
        self.exited();
        // `closed` resolves when the last relay has dropped its receiver.
        timeout(within, self.undrained.closed()).await.is_ok()
    }

    /// Resolves when no process holds the output any more and all output is delivered, or when the
    /// relays have been ended. Resolves at once if there is no relay.
    pub fn output_ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let undrained = self.undrained.clone();
        async move { undrained.closed().await }
    }

    /// Ends all relays, by dropping this value.
    pub fn close(self) {}
}

/// Sets `phase` to `to` if `to` is a later phase. Returns whether the phase has changed.
fn advance(phase: &mut Phase, to: Phase) -> bool {
    let advances = *phase < to;
    if advances {
        *phase = to;
    }
    advances
}

#[expect(
    clippy::disallowed_methods,
    reason = "the async task ends with the ProcessIo that spawned it, see the module documentation"
)]
fn spawn_relay(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}
