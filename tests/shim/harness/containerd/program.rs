//! Runs programs to their end, with a deadline.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read, Write as _},
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    pty::{OpenptyResult, Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{OutputFlags, SetArg, tcgetattr, tcsetattr},
    },
    unistd::Pid,
};
use serde_json::Value;

use crate::harness::schema;

/// The deadline of a program for which none is set.
const DEADLINE: Duration = Duration::from_secs(30);

/// A program that is not yet started.
#[derive(Debug)]
pub(crate) struct Program {
    command: Command,
    stdin: Option<Vec<u8>>,
    terminal: Option<Winsize>,
    deadline: Duration,
}

/// The result of a program that has ended.
#[derive(Debug)]
pub(crate) struct Output {
    /// The command line, for panic messages.
    what: String,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) code: i32,
    /// The lines of JSON that `lookout` has printed.
    pub(crate) rows: Vec<Value>,
}

/// A program that runs in the background. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    what: String,
    pid: i32,
    deadline: Duration,
    /// Receives the output, or the panic of its check.
    end: mpsc::Receiver<thread::Result<Output>>,
    ended: bool,
}

impl Program {
    pub(crate) fn new(command: Command) -> Self {
        Self { command, stdin: None, terminal: None, deadline: DEADLINE }
    }

    /// Sets the bytes of its stdin; by default stdin is empty.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Runs it on a terminal of this size. Its stderr is then part of its stdout, as on any
    /// terminal.
    pub(crate) fn terminal(mut self, rows: u16, columns: u16) -> Self {
        self.terminal = Some(Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 });
        self
    }

    /// Whether it is the command under test, perhaps run by another program.
    pub(super) fn is_lookout(&self) -> bool {
        let program = Path::new(env!("CARGO_BIN_EXE_lookout"));
        self.command.get_program() == program || self.command.get_args().any(|it| it == program)
    }

    /// Sets the deadline.
    pub(crate) fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end. Panics after the deadline.
    pub(crate) fn run(self) -> Output {
        self.spawn().wait()
    }

    /// As [`run`](Self::run), but kills it and returns `None` if it has not ended by its deadline.
    pub(crate) fn run_or_kill(self) -> Option<Output> {
        let mut running = self.spawn();
        let ended = running.end.recv_timeout(running.deadline).ok()?;
        running.ended = true;
        Some(ended.unwrap_or_else(|failed| std::panic::resume_unwind(failed)))
    }

    /// Starts it in the background.
    pub(crate) fn spawn(mut self) -> Running {
        let what = format!("{:?}", self.command);
        let is_lookout = self.is_lookout();
        let (child, pipes) = match self.terminal {
            Some(size) => self.on_terminal(size),
            None => self.on_pipes(),
        };
        let pid = i32::try_from(child.id()).expect("a pid");
        let (sender, end) = mpsc::sync_channel(1);
        let name = what.clone();
        thread::spawn(move || {
            // The test may no longer wait for it.
            let _ = sender.send(collect(name, child, pipes, is_lookout));
        });
        Running { what, pid, deadline: self.deadline, end, ended: false }
    }

    /// Starts it with stdout on a pipe, for callers that read it themselves.
    pub(super) fn piped(mut self) -> Child {
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        self.command.spawn().expect("the program is installed")
    }

    fn on_pipes(&mut self) -> (Child, Vec<Box<dyn Read + Send>>) {
        let stdin = if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            self.command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", self.command));
        if let (Some(mut pipe), Some(bytes)) = (child.stdin.take(), self.stdin.take()) {
            // A write error is ignored: the program may end before it has read everything.
            thread::spawn(move || pipe.write_all(&bytes));
        }
        let stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        (child, vec![Box::new(stdout), Box::new(stderr)])
    }

    fn on_terminal(&mut self, size: Winsize) -> (Child, Vec<Box<dyn Read + Send>>) {
        let OpenptyResult { master, slave } = openpty(Some(&size), None).expect("a terminal");
        // ctr makes its terminal raw except for the output, which would get a second carriage
        // return.
        let mut modes = tcgetattr(&slave).expect("a terminal has modes");
        modes.output_flags.remove(OutputFlags::ONLCR);
        tcsetattr(&slave, SetArg::TCSANOW, &modes).expect("a terminal of our own");
        let end = |slave: &OwnedFd| slave.try_clone().expect("a second handle");
        self.command.stdin(end(&slave)).stdout(end(&slave)).stderr(slave);
        let child =
            self.command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", self.command));
        // Our copies of the terminal must be closed; otherwise reading never reaches its end.
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut master = File::from(master);
        if let Some(bytes) = self.stdin.take() {
            master.write_all(&bytes).expect("a terminal takes a line");
        }
        (child, vec![Box::new(master)])
    }
}

fn collect(
    what: String,
    mut child: Child,
    pipes: Vec<Box<dyn Read + Send>>,
    is_lookout: bool,
) -> thread::Result<Output> {
    let readers = pipes.into_iter().zip([is_lookout, false]);
    let readers = readers.map(|(pipe, checks)| thread::spawn(move || read_all(pipe, checks)));
    let readers = readers.collect::<Vec<_>>();
    let status = child.wait().expect("our own child");
    let mut read = readers.into_iter().map(|reader| reader.join());
    let (stdout, rows) = read.next().transpose()?.unwrap_or_default();
    let (stderr, _) = read.next().transpose()?.unwrap_or_default();
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
    Ok(Output { what, stdout, stderr, code, rows })
}

/// Reads to the end. With `checks`, panics at an event that is not as the schema says, and returns
/// the lines that are JSON. Each line is checked when it comes: a test that waits for the end does
/// not wait for the checks as well.
fn read_all(pipe: Box<dyn Read + Send>, checks: bool) -> (Vec<u8>, Vec<Value>) {
    let (mut reader, mut bytes, mut rows) = (BufReader::new(pipe), Vec::new(), Vec::new());
    loop {
        let line = bytes.len();
        // At the end, reading a terminal fails with EIO; reading a pipe returns 0 bytes.
        let ended = !matches!(reader.read_until(b'\n', &mut bytes), Ok(count) if count > 0);
        if checks {
            rows.extend(schema::assert_line_fits(&String::from_utf8_lossy(&bytes[line..])));
        }
        if ended {
            return (bytes, rows);
        }
    }
}

impl Running {
    /// Waits for its end. Panics after the deadline, and if `lookout` has printed an event that is
    /// not as the schema says.
    pub(crate) fn wait(mut self) -> Output {
        match self.end.recv_timeout(self.deadline) {
            Ok(ended) => {
                self.ended = true;
                ended.unwrap_or_else(|failed| std::panic::resume_unwind(failed))
            }
            Err(_) => panic!("did not end within {:?}: {}", self.deadline, self.what),
        }
    }

    /// Sends a signal to it.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).expect("it runs");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended && self.end.try_recv().is_err() {
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }
}

impl Output {
    /// Panics unless it exited with 0.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        self.exit_code(0)
    }

    /// Panics unless it exited with this code.
    #[track_caller]
    pub(crate) fn exit_code(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            code,
            "{}\nstdout: {}\nstderr: {}",
            self.what,
            self.stdout_text(),
            self.stderr_text()
        );
        self
    }

    pub(crate) fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}
