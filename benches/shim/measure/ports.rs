//! How many listeners are reported, and how soon: from just before listen(2) in the container until
//! a subscriber in another process has the event. In the same run, a poller reads `/proc/net/tcp`
//! once a second.

use std::{
    collections::HashSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use lookout::{
    api::{Filter, event::Body},
    client::{self, EventFollower, FollowOptions, FollowStep, Registration},
};
use nix::time::{ClockId, clock_gettime};

use crate::{
    Result,
    plan::Plan,
    report::Report,
    shim::{Caller, Shim},
    workspace::{Runtime, Side, Version, Workspace},
};

/// How long a listener lives, in milliseconds, and how many of them are opened.
const KINDS: [(u64, usize); 3] = [(5, 1000), (50, 200), (500, 30)];

/// How long to wait until a subscriber is connected, and until the last events arrive.
const UP: Duration = Duration::from_millis(1500);

/// The interval of the poller.
const POLL: Duration = Duration::from_secs(1);

/// The state of a listener in `/proc/net/tcp`: TCP_LISTEN.
const LISTEN: &str = "0A";

pub(super) fn measure(
    plan: &Plan,
    workspace: &Workspace,
    report: &mut Report,
    progress: impl Fn(&str),
) -> Result<()> {
    let caller = Caller::new(workspace, Side::Ours, Version::V1_7, Runtime::Runc)?;
    let shim = caller.idle(Some(("io.lookout.observe", "on")))?;
    fs::copy(workspace.storm().join("ports"), shim.bundle.path.join("rootfs/ports"))?;
    let mut first = 2000;
    for (milliseconds, count) in KINDS {
        let count = if plan.quick { count / 5 } else { count };
        progress(&format!("{count} listeners of {milliseconds} ms"));
        let kind = one(workspace, &shim, milliseconds, count, first)?;
        first += count + 1;
        report.fact(kind);
    }
    shim.end()
}

/// Measures listeners of one kind with a subscriber and a poller. Returns the result as text.
fn one(
    workspace: &Workspace,
    shim: &Shim,
    milliseconds: u64,
    count: usize,
    first: usize,
) -> Result<String> {
    let subscriber = Subscriber::start(&shim.bundle.id)?;
    let poller = Poller::start(shim)?;
    thread::sleep(UP);
    let command = format!("/ports short {count} {} {first} > /result", milliseconds * 1000);
    shim.task.exec(&shim.bundle.id, &workspace.fresh("ports"), &["/bin/sh", "-c", &command])?;
    thread::sleep(UP);
    let (openings, polled) = (subscriber.end()?, poller.end()?);
    let result = fs::read_to_string(shim.bundle.path.join("rootfs/result"))?;
    let mut made: Vec<(u16, u64)> = Vec::new();
    for line in result.lines() {
        let [_, _, port, at] = line.split_whitespace().collect::<Vec<_>>()[..] else { continue };
        made.push((port.parse()?, at.parse()?));
    }
    let mut latencies: Vec<f64> = Vec::new();
    for (port, listened_ns) in &made {
        // The kernel may choose a port again, so the first event after its listen(2) counts.
        let after = openings
            .iter()
            .filter(|opening| opening.port == *port && opening.event_ns >= *listened_ns);
        if let Some(opening) = after.min_by_key(|opening| opening.event_ns) {
            latencies
                .push(Duration::from_nanos(opening.received_ns - listened_ns).as_secs_f64() * 1e6);
        }
    }
    latencies.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        latencies.get((latencies.len() * percent / 100).min(latencies.len() - 1)).copied()
    };
    let (Some(median), Some(p99), Some(most)) = (at(50), at(99), at(100)) else {
        return Err("no listener was reported".into());
    };
    let seen = made.iter().filter(|(port, _)| polled.contains(port)).count();
    Ok(format!(
        "listeners of {milliseconds} ms: {} of {} reported; from listen(2) to a subscriber \
         median {median:.0} µs, p99 {p99:.0} µs, most {most:.0} µs; a poll of /proc/net/tcp each second saw {seen} of them",
        latencies.len(),
        made.len(),
    ))
}

/// One `port.open`, as the subscriber received it.
struct Opening {
    port: u16,
    event_ns: u64,
    received_ns: u64,
}

/// Receives the openings of one shim.
struct Subscriber {
    leave: Arc<AtomicBool>,
    openings: mpsc::Receiver<Opening>,
    reader: thread::JoinHandle<()>,
}

impl Subscriber {
    fn start(shim_id: &str) -> Result<Self> {
        let shims = client::registrations(&client::runtime_dir(), None)?;
        let shim = shims
            .into_iter()
            .find(|shim| shim.id == shim_id)
            .ok_or("the shim is not registered")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, openings) = mpsc::channel();
        let leave = Arc::new(AtomicBool::new(false));
        let asked = leave.clone();
        let reader = thread::spawn(move || runtime.block_on(listen(shim, &asked, &sender)));
        Ok(Self { leave, openings, reader })
    }

    fn end(self) -> Result<Vec<Opening>> {
        self.leave.store(true, Ordering::Relaxed);
        self.reader.join().map_err(|_| "a subscriber panicked")?;
        Ok(self.openings.iter().collect())
    }
}

async fn listen(shim: Registration, leave: &AtomicBool, sender: &mpsc::Sender<Opening>) {
    let filters = vec![Filter { types: vec!["port.open".to_owned()], ..Default::default() }];
    let mut follow = EventFollower::new(
        shim,
        FollowOptions { filters, follow: true, ..FollowOptions::default() },
    );
    while !leave.load(Ordering::Relaxed) {
        let step = tokio::time::timeout(Duration::from_millis(100), follow.next()).await;
        let Ok(FollowStep::Events(events)) = step else { continue };
        let received_ns = now_ns();
        for event in &events {
            let Some(Body::Port(port)) = &event.body else { continue };
            let port = u16::try_from(port.port).unwrap_or_default();
            // A closed channel is ignored: the reader ends after the receiver.
            let _ = sender.send(Opening { port, event_ns: event.monotonic_ns, received_ns });
        }
    }
}

/// Reads the socket lists of the container's network namespace once a second, as other tools do.
struct Poller {
    leave: Arc<AtomicBool>,
    reader: thread::JoinHandle<HashSet<u16>>,
}

impl Poller {
    fn start(shim: &Shim) -> Result<Self> {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", shim.pid))?;
        let init: u32 =
            children.split_whitespace().next().ok_or("the shim has no container")?.parse()?;
        let leave = Arc::new(AtomicBool::new(false));
        let asked = leave.clone();
        let reader = thread::spawn(move || {
            let mut seen = HashSet::new();
            while !asked.load(Ordering::Relaxed) {
                for list in ["tcp", "tcp6"] {
                    let list =
                        fs::read_to_string(format!("/proc/{init}/net/{list}")).unwrap_or_default();
                    seen.extend(list.lines().filter_map(listener));
                }
                thread::sleep(POLL);
            }
            seen
        });
        Ok(Self { leave, reader })
    }

    fn end(self) -> Result<HashSet<u16>> {
        self.leave.store(true, Ordering::Relaxed);
        self.reader.join().map_err(|_| "a poller panicked".into())
    }
}

/// The port of a line of `/proc/net/tcp`; `None` if it is not a listener.
fn listener(line: &str) -> Option<u16> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, local, _, state, ..] = words[..] else { return None };
    u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok().filter(|_| state == LISTEN)
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or_default()
}
