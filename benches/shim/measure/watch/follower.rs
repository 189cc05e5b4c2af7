//! Who follows the watched container.

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

use lookout::{
    api::event::Body,
    client::{self, Batch, Follow, Registration, Step, Wanted},
};
use nix::{sys::signal::Signal, unistd::Pid};

use super::{
    UP,
    leaves::{self, Leaves},
};
use crate::{Result, place::Place};

pub(super) enum Follower {
    /// `lookout events`, and who reads what it prints; whether it is told of processes.
    Command { child: Child, reader: JoinHandle<()>, counts: bool },
    /// A thread of this program that takes everything.
    Taker { leave: Arc<AtomicBool>, taker: JoinHandle<()> },
}

/// Begins to follow a container.
type Start = fn(&Place, &str, &Leaves) -> Result<Follower>;

impl Follower {
    /// The closing record only.
    pub(super) const CLOSE: Start = |place, id, leaves| Self::command(place, id, leaves, Some("container.close"));

    /// Everything, printed as JSON.
    pub(super) const JSON: Start = |place, id, leaves| Self::command(place, id, leaves, None);

    /// Everything, taken as it came and looked at when nothing more comes.
    pub(super) const ALL: Start = |_, id, leaves| {
        let shims = client::registrations(&client::runtime_dir(), None)?;
        let shim = shims.into_iter().find(|shim| shim.id == id).ok_or("the shim is not registered")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let leave = Arc::new(AtomicBool::new(false));
        let (asked, leaves) = (leave.clone(), leaves.clone());
        let taker = thread::spawn(move || runtime.block_on(take(shim, &asked, &leaves)));
        Ok(Self::Taker { leave, taker })
    };

    fn command(place: &Place, id: &str, leaves: &Leaves, only: Option<&str>) -> Result<Self> {
        let mut command = Command::new(place.lookout());
        command.args(["events", "-f", "-o", "jsonl", "--container", id]);
        command.args(only.iter().flat_map(|only| ["--type", only]));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let leaves = leaves.clone();
        let reader = thread::spawn(move || {
            let lines = stdout.lines().map_while(std::result::Result::ok);
            lines.filter_map(|line| leaves::of_line(&line)).for_each(|number| leaves.tell(number));
        });
        Ok(Self::Command { child, reader, counts: only.is_none() })
    }

    /// Whether it tells what it hears of processes.
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

/// Keeps what comes, and looks at it when nothing has come for a while: the storm is over.
async fn take(shim: Registration, leave: &AtomicBool, leaves: &Leaves) {
    const SILENCE: Duration = Duration::from_millis(50);
    let mut follow = Follow::new(shim, Wanted { filters: Vec::new(), since: String::new(), follow: true });
    let mut taken = Vec::new();
    while !leave.load(Ordering::Relaxed) {
        match tokio::time::timeout(SILENCE, follow.next_batch()).await {
            Ok(Step::Events(batch)) => taken.push(batch),
            Ok(_) => return,
            Err(_) => taken.drain(..).for_each(|batch| look(&batch, leaves)),
        }
    }
}

fn look(batch: &Batch, leaves: &Leaves) {
    let starts = batch.iter().filter(|event| event.type_ == b"process.start");
    for event in starts.filter_map(|event| event.decode().ok()) {
        let Some(Body::Process(process)) = &event.body else { continue };
        let [name, number] = &process.args[..] else { continue };
        let number = str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        number.filter(|_| name == b"leaf").into_iter().for_each(|number| leaves.tell(number));
    }
}
