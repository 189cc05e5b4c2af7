//! Runs the `lookout` binary.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use super::{fake::Node, schema};

/// The deadline of every wait: longer than anything takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The result of a finished command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The command with the runtime directory of a node and no other environment.
pub(crate) fn command(node: &Node, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lookout"));
    command.args(args).env_clear().env("LOOKOUT_RUNTIME_DIR", node.path()).stdin(Stdio::null());
    command
}

/// Runs a command and waits for its end. Panics if it has printed an event that is not as the
/// schema says.
pub(crate) fn run(node: &Node, args: &[&str]) -> Ran {
    let output = command(node, args).output().expect("it runs");
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    schema::assert_output_fits(&out);
    Ran {
        code: output.status.code().expect("no signal ended it"),
        out,
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// A command that is still running. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    pub(crate) fn new(node: &Node, args: &[&str]) -> Self {
        let mut child = command(node, args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let stdout = child.stdout.take().expect("a pipe");
        let (sender, lines) = channel();
        thread::spawn(move || read_lines(stdout, |line| sender.send(line).is_ok()));
        Self { child, lines }
    }

    /// Waits for the next line of the output. An event must be as the schema says.
    pub(crate) fn line(&self) -> String {
        let line = self.lines.recv_timeout(PATIENCE).expect("another line");
        schema::assert_line_fits(&line);
        line
    }

    /// Sends SIGTERM. Returns the exit status and the remaining lines.
    pub(crate) fn term(mut self) -> (i32, Vec<String>) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it lives");
        let code = self.end();
        let rest: Vec<String> = self.lines.iter().collect();
        schema::assert_output_fits(&rest.join("\n"));
        (code, rest)
    }

    /// Waits for the end of the command and returns its exit status.
    pub(crate) fn end(&mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status
                    .code()
                    .unwrap_or_else(|| panic!("it ended by {status}: {}", self.stderr()));
            }
            assert!(Instant::now() < deadline, "it is still running");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(stdout: ChildStdout, mut take: impl FnMut(String) -> bool) {
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { return };
        if !take(line) {
            return;
        }
    }
}
