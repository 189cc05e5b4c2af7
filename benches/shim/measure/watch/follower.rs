//! The subscribers of the observed container.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use lookout::client::{self, EventFollower, FollowOptions, FollowStep, Registration};
use nix::{sys::signal::Signal, unistd::Pid};

use super::{
    UP,
    leaves::{self, Leaves},
};
use crate::{Result, workspace::Workspace};

pub(super) enum Follower {
    /// A `lookout events` and the thread that reads its output; and whether it receives process
    /// events.
    Command { child: Child, reader: JoinHandle<()>, counts: bool },
    /// A thread of this program that receives everything.
    Taker { leave: Arc<AtomicBool>, taker: JoinHandle<()> },
}

/// Starts a subscriber of a container.
type Start = fn(&Workspace, &str, &Leaves) -> Result<Follower>;

impl Follower {
    /// Receives only `container.close`.
    pub(super) const CLOSE: Start =
        |workspace, id, leaves| Self::command(workspace, id, leaves, Some("container.close"));

    /// Receives everything, printed as JSON.
    pub(super) const JSON: Start =
        |workspace, id, leaves| Self::command(workspace, id, leaves, None);

    /// Receives everything in this program.
    pub(super) const ALL: Start = |_, id, leaves| {
        let shims = client::registrations(&client::runtime_dir(), None)?;
        let shim =
            shims.into_iter().find(|shim| shim.id == id).ok_or("the shim is not registered")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let leave = Arc::new(AtomicBool::new(false));
        let (asked, leaves) = (leave.clone(), leaves.clone());
        let taker = thread::spawn(move || runtime.block_on(take(shim, &asked, &leaves)));
        Ok(Self::Taker { leave, taker })
    };

    fn command(
        workspace: &Workspace,
        id: &str,
        leaves: &Leaves,
        only: Option<&str>,
    ) -> Result<Self> {
        let mut command = Command::new(workspace.lookout());
        command.args(["events", "-f", "-o", "jsonl", "--container", id]);
        command.args(only.iter().flat_map(|only| ["--type", only]));
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let leaves = leaves.clone();
        let reader = thread::spawn(move || {
            let lines = stdout.lines().map_while(std::result::Result::ok);
            lines
                .filter_map(|line| leaves::of_line(&line))
                .for_each(|number| leaves.report(number));
        });
        Ok(Self::Command { child, reader, counts: only.is_none() })
    }

    /// Whether it counts the process events that it receives.
    pub(super) fn counts(&self) -> bool {
        matches!(self, Self::Taker { .. } | Self::Command { counts: true, .. })
    }

    pub(super) fn end(self) -> Result<()> {
        match self {
            Self::Command { mut child, reader, .. } => {
                nix::sys::signal::kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
                let begun = Instant::now();
                while child.try_wait()?.is_none() {
                    if begun.elapsed() > UP {
                        child.kill()?;
                    }
                    thread::sleep(Duration::from_millis(10));
                }
                reader.join()
            }
            Self::Taker { leave, taker } => {
                leave.store(true, Ordering::Relaxed);
                taker.join()
            }
        }
        .map_err(|_| "a follower panicked".into())
    }
}

/// Receives all events, and counts the leaf of each start.
async fn take(shim: Registration, leave: &AtomicBool, leaves: &Leaves) {
    const LOOK_UP: Duration = Duration::from_millis(100);
    let mut follow = EventFollower::new(
        shim,
        FollowOptions { filters: Vec::new(), follow: true, ..FollowOptions::default() },
    );
    while !leave.load(Ordering::Relaxed) {
        match tokio::time::timeout(LOOK_UP, follow.next_batch()).await {
            Ok(FollowStep::Events(batch)) => {
                let starts = batch.iter().filter(|event| event.type_ == b"process.start");
                starts
                    .filter_map(|event| leaves::of_event(event.bytes))
                    .for_each(|number| leaves.report(number));
            }
            Ok(_) => return,
            Err(_) => {}
        }
    }
}
