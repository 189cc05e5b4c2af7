//! The stdio as a client and a process see it, with real fifos, pipes and terminals. Clients and
//! processes are threads here, so that no test reaps the children of another.

use std::{
    fs::{File, OpenOptions},
    future::Future,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio as Redirect},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use tempfile::TempDir;

use super::{IoError, LoggerIdentity, PipeOwner, ProcessIo, Stdio};
use crate::reaper::Reaper;

mod fifos;
mod files;
mod holding;
mod inputs;
mod leaks;
mod loggers;
mod terminals;

/// Far more than any event here takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// Long enough for a drain that is expected to succeed.
const DRAIN: Duration = Duration::from_secs(30);

/// Short enough for a drain that is expected to fail.
const BRIEFLY: Duration = Duration::from_millis(50);

const CONTAINER: LoggerIdentity<'static> =
    LoggerIdentity { namespace: "k8s.io", container_id: "web" };

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result =
        runtime.block_on(async { tokio::time::timeout(DEADLINE, test).await.expect("in time") });
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Waits until `condition` holds.
async fn until(mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < DEADLINE, "not in time");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runs `work` on another thread while the tokio runtime goes on.
async fn on_other_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// A temporary directory for a client's fifos and files.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn fifo(&self, name: &str) -> String {
        mkfifo(&self.path(name), Mode::S_IRWXU).unwrap();
        self.text(name)
    }
}

fn stdio(stdin: &str, stdout: &str, stderr: &str) -> Stdio {
    Stdio {
        stdin: stdin.to_owned(),
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
        terminal: false,
    }
}

async fn open(stdio: &Stdio) -> ProcessIo {
    ProcessIo::open(stdio, PipeOwner::default(), CONTAINER, &Reaper::default()).await.unwrap()
}

async fn refusal(stdio: &Stdio) -> IoError {
    ProcessIo::open(stdio, PipeOwner::default(), CONTAINER, &Reaper::default()).await.unwrap_err()
}

/// An opened and released stdio, and the process's end of its stdout.
async fn begin(stdout: &str) -> (ProcessIo, OwnedFd) {
    let mut io = open(&stdio("", stdout, "")).await;
    let child = io.child().stdout.unwrap();
    io.release().await.unwrap();
    (io, child)
}

/// Pseudo-random bytes, so that a lost or repeated part is noticed.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// A process that writes `output` and ends. Returns whether all of it was taken.
fn process(pipe: OwnedFd, output: Vec<u8>) -> JoinHandle<bool> {
    thread::spawn(move || File::from(pipe).write_all(&output).is_ok())
}

/// A client that reads to the end, `at_once` bytes at a time.
fn client(fifo: &str, at_once: usize) -> JoinHandle<Vec<u8>> {
    let fifo = fifo.to_owned();
    thread::spawn(move || read_to_end(File::open(fifo).unwrap(), at_once))
}

fn read_to_end(mut file: File, at_once: usize) -> Vec<u8> {
    let (mut all, mut part) = (Vec::new(), vec![0; at_once]);
    loop {
        match file.read(&mut part).unwrap() {
            0 => return all,
            count => all.extend_from_slice(&part[..count]),
        }
    }
}

async fn joined<T: Send + 'static>(thread: JoinHandle<T>) -> T {
    on_other_thread(|| thread.join().unwrap()).await
}

/// The CPU time that the runtime's thread has used.
fn thread_cpu_time() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    let time = usage.user_time() + usage.system_time();
    Duration::from_micros(u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap())
}

/// Compares two buffers without printing megabytes.
#[track_caller]
fn assert_same(got: &[u8], expected: &[u8]) {
    let differs = got.iter().zip(expected).position(|(got, expected)| got != expected);
    assert_eq!((got.len(), differs), (expected.len(), None));
}

/// Runs the test called `name` (within this module) again, alone in a process, for tests that count
/// the descriptors of their process or reap its children. Returns whether this *is* that process.
fn runs_alone(name: &str) -> bool {
    const ALONE: &str = "LOOKOUT_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = format!("{}::{name}", module_path!().split_once("::").unwrap().1);
    command.args(["--exact", &name, "--nocapture"]).env(ALONE, "1").stdout(Redirect::piped());
    #[expect(
        clippy::disallowed_methods,
        reason = "a test that waits for the output, not for the child"
    )]
    let mut child = command.spawn().unwrap();
    let lines: Vec<String> =
        BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
    // The wait fails if another test of this process has reaped the child.
    let _ = child.wait();
    assert!(lines.iter().any(|line| line.starts_with("test result: ok. 1 passed")), "{lines:#?}");
    false
}
