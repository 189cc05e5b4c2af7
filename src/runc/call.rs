//! One run of the runtime's binary: spawns it, waits for it, and converts a failure to a
//! [`RuntimeError`].

use std::{
    convert::Infallible,
    ffi::OsString,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    Runc,
    capture::Capture,
    error::RuntimeError,
    log,
    scratch::{DISK_MAX, Scratch},
};
use crate::{
    model::{Exit, RuntimeCall},
    sys::{nofile, process::SpawnAttr},
    workers::{self, Work},
};

/// The longest time that an error waits for the runtime's log, which may be long.
const LOG_MAX: Duration = Duration::from_secs(5);

/// Cancels a call of the runtime: kills the runtime's whole process group. Clones cancel the same
/// call.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Notify>);

impl Cancel {
    /// Cancels the call that holds this token. If the call has not begun, it is cancelled when it
    /// begins.
    pub fn cancel(&self) {
        self.0.notify_one();
    }

    /// Resolves when the call is cancelled.
    pub async fn cancelled(&self) {
        self.0.notified().await;
    }
}

/// One invocation of the runtime: the verb, its arguments and how to supervise it.
pub(super) struct Call<'a> {
    pub(super) verb: &'static str,
    pub(super) arguments: Vec<OsString>,
    /// The child's descriptors 0, 1 and 2; `None` is `/dev/null`. Descriptors 1 and 2 are used only
    /// if `stdio_is_containers`.
    pub(super) stdio: [Option<OwnedFd>; 3],
    /// Whether descriptors 1 and 2 belong to the container. If they do not, the runtime's output is
    /// captured, to be quoted in an error.
    pub(super) stdio_is_containers: bool,
    /// Time after which the runtime is killed; `None` waits without a limit.
    pub(super) deadline: Option<Duration>,
    pub(super) cancel: Option<&'a Cancel>,
    /// Receives the beginning and the end of the spawn, for the observer. With `None` and an
    /// observed container, the call is reported as one that makes no process of an exec.
    pub(super) observed: Option<&'a dyn RuntimeCall>,
}

impl<'a> Call<'a> {
    pub(super) fn new(verb: &'static str) -> Self {
        Self {
            verb,
            arguments: Vec::new(),
            stdio: [None, None, None],
            stdio_is_containers: false,
            deadline: None,
            cancel: None,
            observed: None,
        }
    }
}

impl Runc {
    /// Runs one verb and waits until the runtime has ended.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<(), RuntimeError> {
        let binary = self.path()?;
        // Without a directory, on a disk that is full or hangs, the call still runs, because a kill
        // or a delete must work then too. Its error then has to come from its output.
        let bundle = self.bundle.clone();
        let scratch = on_disk(DISK_MAX, move || Scratch::make(&bundle)).await.ok();
        let log = scratch.as_ref().map(|scratch| scratch.file("log.json"));
        let [stdin, stdout, stderr] = call.stdio;
        let spawn_error = |source| RuntimeError::Spawn { binary: binary.clone(), source };
        let mut command = self.command(&binary, log.as_deref());
        command.arg(call.verb).args(&call.arguments);
        command.stdin(stdin.map_or_else(Stdio::null, Stdio::from));
        // A call that ends something must succeed although no descriptor is free.
        let reserve = matches!(call.verb, "kill" | "delete" | "resume").then(nofile::reserve);
        let mut capture = None;
        if call.stdio_is_containers {
            command.stdout(stdout.map_or_else(Stdio::null, Stdio::from));
            command.stderr(stderr.map_or_else(Stdio::null, Stdio::from));
        } else {
            let (read, write) = Capture::new().map_err(spawn_error)?;
            command.stdout(write.try_clone().map_err(spawn_error)?).stderr(write);
            capture = Some(read);
        }
        let attr = SpawnAttr {
            die_with_parent: true,
            oom_score_adj: self.oom_score_adj,
            ..SpawnAttr::default()
        };
        // Held until the call has ended, because its drop reports that end to the observer.
        let own = match call.observed {
            Some(_) => None,
            None => self.begin_observed_call(),
        };
        let observed = call.observed.or(own.as_deref());
        if let Some(observed) = observed {
            observed.spawn_begins();
        }
        let spawned = self.reaper.spawn(&mut command, attr);
        if let Some(observed) = observed {
            observed.spawn_ended(spawned.as_ref().ok().map(|child| child.pid));
        }
        let mut child = spawned.map_err(spawn_error)?;
        // `command` holds the shim's copies of the child's descriptors. While they are open, a
        // reader of the container's output never sees the end of the stream.
        drop((command, reserve));
        let _unfinished = KillOnDrop { runc: self, pid: child.pid };
        let end = tokio::select! {
            exit = &mut child.exit => CallEnd::Exited(exit.ok()),
            never = read_capture(&mut capture) => match never {},
            () = sleep_for(call.deadline) => CallEnd::TimedOut,
            () = cancelled(call.cancel) => CallEnd::Cancelled,
        };
        let exit = match end {
            CallEnd::Exited(exit) => exit,
            CallEnd::TimedOut | CallEnd::Cancelled => {
                // The whole process group is killed, because the runtime's children (`runc init`,
                // CRIU) would outlive the runtime otherwise.
                let _ = self.reaper.kill_group(child.pid);
                (&mut child.exit).await.ok()
            }
        };
        let result = match end {
            CallEnd::Exited(_) => self.result_of_call(&binary, call.verb, exit, log, capture).await,
            CallEnd::TimedOut => Err(RuntimeError::TimedOut {
                binary,
                verb: call.verb,
                after: call.deadline.unwrap_or_default(),
            }),
            CallEnd::Cancelled => Err(RuntimeError::Cancelled { verb: call.verb }),
        };
        if let Some(scratch) = scratch {
            scratch.remove().await;
        }
        result
    }

    /// The command of the runtime with its global flags, without a verb.
    fn command(&self, binary: &Path, log: Option<&Path>) -> Command {
        let mut command = Command::new(binary);
        // The variable names the service manager of containerd. runc would pass it on to the
        // container, and the container's sd_notify(3) messages must not reach that manager.
        command.env_remove("NOTIFY_SOCKET").current_dir(&self.bundle);
        command
            .arg("--root")
            .arg(&self.root)
            .arg("--log")
            .arg(log.unwrap_or(Path::new("/dev/null")))
            .args(["--log-format", "json"]);
        if self.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        command
    }

    /// The result of a call after the runtime has exited: an error unless the exit status is 0. The
    /// message of the error is the last error in the runtime's log. If the log has no error, the
    /// message is the exit status and the runtime's output.
    async fn result_of_call(
        &self,
        binary: &Path,
        verb: &'static str,
        exit: Option<Exit>,
        log: Option<PathBuf>,
        capture: Option<Capture>,
    ) -> Result<(), RuntimeError> {
        let status = exit.map_or(255, |exit| exit.status());
        if status == 0 {
            return Ok(());
        }
        let printed = capture.map(Capture::text).filter(|text| !text.is_empty());
        let ended = format!(
            "{} {verb} did not terminate successfully: exit status {status}",
            binary.display()
        );
        let read = match log.clone() {
            Some(path) => Some(on_disk(LOG_MAX, move || log::last_error(&path)).await),
            None => None,
        };
        let (message, logged) = match log.zip(read) {
            Some((_, Ok(Some(message)))) => (message, true),
            None | Some((_, Ok(None))) => (ended, false),
            Some((log, Err(error))) => {
                let log = log.display();
                (
                    format!(
                        "unable to retrieve OCI runtime error (open {log}: {}): {ended}",
                        go_error_text(&error)
                    ),
                    false,
                )
            }
        };
        Err(RuntimeError::failed(&message, logged).quoting(&printed.unwrap_or_default()))
    }
}

/// Makes a call that a disk that hangs may delay, and waits for `max` at most.
async fn on_disk<T: Send + 'static>(
    max: Duration,
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::time::timeout(max, workers::run(Work::File, call)).await {
        Ok(ended) => ended.map_err(io::Error::other)?,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Why the wait for a runtime has ended.
enum CallEnd {
    /// The runtime has exited; `None` if the reaper lost its exit.
    Exited(Option<Exit>),
    TimedOut,
    Cancelled,
}

/// A guard: kills the runtime if the call is dropped before the runtime has ended, because the shim
/// exits. After the runtime has ended, dropping the guard does nothing: the reaper does not signal
/// a child that it has reaped.
struct KillOnDrop<'a> {
    runc: &'a Runc,
    pid: i32,
}

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        let _ = self.runc.reaper.kill_group(self.pid);
    }
}

/// The text of an error. For a missing file it is the text of Go's standard library, because
/// clients match on that text.
fn go_error_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".into(),
        _ => error.to_string(),
    }
}

/// Reads the runtime's output. Never returns, also without a capture.
async fn read_capture(capture: &mut Option<Capture>) -> Infallible {
    match capture {
        Some(capture) => capture.read().await,
        None => std::future::pending().await,
    }
}

/// Returns after `deadline`; never without one.
async fn sleep_for(deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline).await,
        None => std::future::pending().await,
    }
}

/// Returns when the call is cancelled; never if it cannot be cancelled.
async fn cancelled(cancel: Option<&Cancel>) {
    match cancel {
        Some(cancel) => cancel.cancelled().await,
        None => std::future::pending().await,
    }
}
