//! Tests of the daemon and of its commands.

mod commands;
mod deaths;
mod kills;
mod node;
mod place;
mod rest;
mod root;
mod usage;

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{
    fake::Node,
    run::{PATIENCE, Ran, command, run},
};

/// A daemon of a node. Dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts a daemon and waits until it answers.
    pub(crate) fn start(node: &Node) -> Self {
        Self::spawn(&mut command(node, &["daemon"]), node)
    }

    pub(crate) fn spawn(command: &mut Command, node: &Node) -> Self {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(node.path().join("daemon.log"))
            .expect("a log");
        let mut child = command.stdout(Stdio::null()).stderr(log).spawn().expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        while run(node, &["ping"]).code != 0 {
            let ended = child.try_wait().expect("a child");
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}: {}", log_of(node));
            thread::sleep(Duration::from_millis(5));
        }
        Self { child }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// Kills the daemon with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it lives");
        self.child.wait().expect("a child");
    }

    /// Stops the daemon with SIGTERM, as systemd does, and returns its exit status.
    pub(crate) fn term(mut self) -> i32 {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM).expect("it lives");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code().expect("no signal ended it");
            }
            assert!(Instant::now() < deadline, "it is still running");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A child process. Dropping it kills and reaps it.
pub(crate) struct Sleeper(Child);

impl Sleeper {
    pub(crate) fn new() -> Self {
        Self::of(Command::new("sleep").arg("1000").stdin(Stdio::null()))
    }

    /// Starts another program that is killed at the end of the test.
    pub(crate) fn of(command: &mut Command) -> Self {
        Self(command.spawn().expect("it runs"))
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(&mut self) {
        self.0.wait().expect("a child");
    }

    pub(crate) fn pid(&self) -> String {
        self.0.id().to_string()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.0.try_wait().expect("a child").is_none()
    }

    /// Kills and reaps the process.
    pub(crate) fn end(&mut self) {
        self.0.kill().expect("it lives");
        self.0.wait().expect("a child");
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command that must succeed without warnings, and returns its output.
#[track_caller]
pub(crate) fn ok(node: &Node, args: &[&str]) -> String {
    let Ran { code, out, err } = run(node, args);
    assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
    out
}

/// The entries that `lookout list -o json` prints.
#[track_caller]
pub(crate) fn listed(node: &Node, args: &[&str]) -> Vec<Value> {
    let out = ok(node, &[&["list", "-o", "json"], args].concat());
    serde_json::from_str(&out).expect("an array")
}

/// Waits until an entry satisfies a condition, and returns it.
#[track_caller]
pub(crate) fn wait_for(node: &Node, id: u64, is: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let entries = listed(node, &["--id", &id.to_string()]);
        if let Some(entry) = entries.first().filter(|entry| is(entry)) {
            return entry.clone();
        }
        assert!(Instant::now() < deadline, "it is {entries:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn log_of(node: &Node) -> String {
    fs::read_to_string(node.path().join("daemon.log")).unwrap_or_default()
}

pub(crate) fn registry_of(node: &Node) -> PathBuf {
    node.path().join("registry/registry.jsonl")
}

/// Sends a request to a socket and returns the complete answer.
pub(crate) fn request(socket: &Path, text: &str) -> String {
    use std::io::Write as _;
    let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("it serves");
    stream.write_all(text.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}
