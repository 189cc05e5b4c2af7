//! The fourteen operations that a shortage meets.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::OpenOptionsExt as _,
    thread,
    time::{Duration, Instant},
};

use containerd_shim_protos::api;
use nix::sys::signal::Signal;

use super::{
    client::{Answer, CALL, leave},
    scene::{PROBE, SECOND, Scene, WEB},
    shortage::{Applied, Shortage},
};
use crate::harness::{Process, deadline};

/// The longest time of what needs no client, while the shortage lasts.
pub(super) const AT_ONCE: Duration = Duration::from_secs(1);

/// What happens during a shortage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Create,
    Start,
    Exec,
    InitExit,
    ExecExit,
    Kill,
    Delete,
    Update,
    Stats,
    Pids,
    LogLine,
    Pause,
    /// containerd is killed and started again.
    Restart,
    /// The shim is killed, and containerd runs the verb `delete`.
    DeleteVerb,
}

/// What an operation has made before the shortage.
#[derive(Default)]
pub(super) struct Prepared {
    create: Option<api::CreateTaskRequest>,
    exec: Option<Process>,
}

impl Operation {
    pub(super) const ALL: [Self; 14] = [
        Self::Create,
        Self::Start,
        Self::Exec,
        Self::InitExit,
        Self::ExecExit,
        Self::Kill,
        Self::Delete,
        Self::Update,
        Self::Stats,
        Self::Pids,
        Self::LogLine,
        Self::Pause,
        Self::Restart,
        Self::DeleteVerb,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Exec => "exec",
            Self::InitExit => "init-exit",
            Self::ExecExit => "exec-exit",
            Self::Kill => "kill",
            Self::Delete => "delete",
            Self::Update => "update",
            Self::Stats => "stats",
            Self::Pids => "pids",
            Self::LogLine => "log-line",
            Self::Pause => "pause",
            Self::Restart => "restart",
            Self::DeleteVerb => "delete-verb",
        }
    }

    /// Why this shortage cannot meet this operation; `None` if it can.
    pub(super) fn does_not_meet(self, shortage: Shortage) -> Option<&'static str> {
        match (self, shortage) {
            (Self::DeleteVerb, Shortage::NoDescriptor) => {
                Some("the verb is a process of its own, which has descriptors")
            }
            (Self::Restart, Shortage::ContainerdAway) => Some("the shortage ends by the restart"),
            (Self::Restart, Shortage::ClientGone) => Some("a restart has no client"),
            _ => None,
        }
    }

    /// Where the output of `web` goes: to a file or to fifos; `None` if there is none.
    pub(super) fn logs(self, shortage: Shortage) -> Option<bool> {
        (self == Self::LogLine).then_some(shortage != Shortage::ClientGone)
    }

    /// Makes what the operation needs, before the shortage.
    pub(super) fn prepare(self, scene: &Scene) -> Prepared {
        let mut prepared = Prepared::default();
        let task = &scene.task;
        match self {
            Self::Create => prepared.create = Some(scene.second()),
            Self::Start | Self::Delete => {
                let created = task.create(&scene.second()).expect("nothing is lacking yet");
                if self == Self::Delete {
                    task.start(SECOND, "").expect("nothing is lacking yet");
                    assert!(Process::new(created.pid).kill());
                    task.wait(SECOND, "").expect("nothing is lacking yet");
                }
            }
            Self::Exec | Self::ExecExit => {
                task.exec_with(&scene.exec()).expect("nothing is lacking yet");
                if self == Self::ExecExit {
                    let started = task.start(WEB, PROBE).expect("nothing is lacking yet");
                    prepared.exec = Some(Process::new(started.pid));
                }
            }
            _ => {}
        }
        prepared
    }

    /// Does it, with a client that waits for the answer.
    pub(super) fn run(self, scene: &mut Scene, prepared: &Prepared, lacks: &Applied) -> Answer {
        let task = &scene.task;
        match self {
            Self::Create => {
                let request = prepared.create.as_ref().expect("prepared");
                Answer::of(|| task.create(request))
            }
            Self::Start => Answer::of(|| task.start(SECOND, "")),
            Self::Exec => Answer::of(|| task.start(WEB, PROBE)),
            Self::InitExit => {
                scene.init.kill();
                Answer::of(|| task.wait(WEB, ""))
            }
            Self::ExecExit => {
                prepared.exec.expect("prepared").kill();
                Answer::of(|| task.wait(WEB, PROBE))
            }
            Self::Kill => Answer::of(|| task.kill(WEB, "", 9)),
            Self::Delete => Answer::of(|| task.delete(SECOND, "")),
            Self::Update => Answer::of(|| task.update(WEB, RESOURCES)),
            Self::Stats => Answer::of(|| task.stats(WEB)),
            Self::Pids => Answer::of(|| task.pids(WEB)),
            Self::Pause => Answer::of(|| task.pause(WEB)),
            Self::LogLine => {
                scene.init.signal(Signal::SIGUSR1);
                measured(scene.wait(AT_ONCE, has_line), "no line in the log")
            }
            Self::Restart => restart(scene),
            Self::DeleteVerb => delete_verb(scene, lacks),
        }
    }

    /// Does it, with a client that leaves before the answer. Returns whether it has left in time.
    pub(super) fn run_and_leave(self, scene: &mut Scene, prepared: &Prepared) -> bool {
        let (id, exec_id) = match self {
            Self::Start | Self::Delete => (SECOND.to_owned(), String::new()),
            Self::Exec | Self::ExecExit => (WEB.to_owned(), PROBE.to_owned()),
            _ => (WEB.to_owned(), String::new()),
        };
        macro_rules! leave {
            ($method:literal, $request:ident { $($field:ident $(: $value:expr)?),* }) => {{
                let request = api::$request { $($field $(: $value)?,)* ..Default::default() };
                leave(scene, $method, &request)
            }};
        }
        match self {
            Self::Create => leave(scene, "Create", prepared.create.as_ref().expect("prepared")),
            Self::Start | Self::Exec => leave!("Start", StartRequest { id, exec_id }),
            Self::InitExit | Self::ExecExit => {
                let left = leave!("Wait", WaitRequest { id, exec_id });
                prepared.exec.unwrap_or(scene.init).kill();
                left
            }
            Self::Kill => leave!("Kill", KillRequest { id, signal: 9 }),
            Self::Delete => leave!("Delete", DeleteRequest { id }),
            Self::Update => leave(scene, "Update", &scene.task.update_request(WEB, RESOURCES)),
            Self::Stats => leave!("Stats", StatsRequest { id }),
            Self::Pids => leave!("Pids", PidsRequest { id }),
            Self::Pause => leave!("Pause", PauseRequest { id }),
            // The client that has made the container has left; another one comes.
            Self::LogLine => {
                scene.init.signal(Signal::SIGUSR1);
                line_of_fifo(AT_ONCE).as_deref() == Some("line\n")
            }
            Self::Restart => unreachable!("it has no client"),
            Self::DeleteVerb => lose_client_of_verb(scene),
        }
    }

    /// Waits until what the shortage has delayed is done. Returns what went wrong.
    pub(super) fn settle(self, scene: &Scene, within: Duration) -> Option<String> {
        match self {
            Self::LogLine if scene.log().exists() => {
                let found = scene.wait(within, has_line);
                found.is_none().then(|| "the line is lost".to_owned())
            }
            Self::Restart => {
                let known = scene.wait(within, |scene| scene.status().is_some());
                known.is_none().then(|| "containerd has lost the task".to_owned())
            }
            _ => None,
        }
    }
}

/// An update that changes something.
const RESOURCES: &str = r#"{"memory":{"limit":67108864}}"#;

fn measured(after: Option<Duration>, otherwise: &str) -> Answer {
    let failure = after.is_none().then(|| otherwise.to_owned());
    Answer { failure, after: after.unwrap_or(AT_ONCE) }
}

fn has_line(scene: &Scene) -> bool {
    fs::read_to_string(scene.log()).is_ok_and(|text| text == "line\n")
}

/// Reads the first line of the fifo that the client of `web` has left.
fn line_of_fifo(within: Duration) -> Option<String> {
    let directories = fs::read_dir("/run/containerd/fifo").ok()?.flatten();
    let mut fifos = directories.map(|entry| entry.path().join(format!("{WEB}-stdout")));
    let path = fifos.find(|path| path.exists())?;
    let fifo =
        fs::File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).ok()?;
    let begun = Instant::now();
    let mut fifo = BufReader::new(fifo);
    let mut line = String::new();
    while begun.elapsed() < within && !line.ends_with('\n') {
        if fifo.read_line(&mut line).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
    }
    Some(line)
}

/// Kills containerd, starts it again, and waits until it knows that `web` runs.
fn restart(scene: &mut Scene) -> Answer {
    scene.node.kill_9();
    scene.events = None;
    let begun = Instant::now();
    let failure = if !scene.node.serves_again_within(CALL) {
        Some("containerd does not serve".to_owned())
    } else {
        let runs = |scene: &Scene| scene.status().as_deref() == Some("RUNNING");
        let waited = scene.wait(AT_ONCE, runs);
        scene.subscribe();
        let status = || scene.status().unwrap_or_else(|| "no task".to_owned());
        waited.is_none().then(|| format!("containerd: {}", status()))
    };
    Answer { failure, after: begun.elapsed() }
}

/// Kills the shim, so that containerd runs the verb with the same shortage.
fn delete_verb(scene: &mut Scene, lacks: &Applied) -> Answer {
    let script = lacks.inherited().unwrap_or_default();
    fs::write(scene.node.path("verb"), script).expect("our directory is writable");
    scene.shim.kill();
    if scene.events.is_none() {
        return Answer { failure: Some("not run".to_owned()), after: Duration::ZERO };
    }
    measured(scene.wait(AT_ONCE, |scene| scene.exit_of(WEB, WEB).is_some()), "no exit yet")
}

/// As [`delete_verb`], but containerd is killed while the verb runs, and started again.
fn lose_client_of_verb(scene: &mut Scene) -> bool {
    let began = scene.node.path("began");
    let script = format!("touch {}; sleep 0.3", began.display());
    fs::write(scene.node.path("verb"), script).expect("our directory is writable");
    scene.shim.kill();
    deadline::until("the verb to begin", || began.exists());
    scene.node.kill_9();
    scene.events = None;
    let serves = scene.node.serves_again_within(CALL);
    scene.subscribe();
    serves
}
