//! How soon a listener is told, and how many: from just before listen(2) in the container until a
//! subscriber in another process has the event, beside somebody who reads `/proc/net/tcp` once a
//! second in the same run.

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
    client::{self, Follow, Registration, Step, Wanted},
};
use nix::time::{ClockId, clock_gettime};

use crate::{
    Result,
    place::{Place, Runtime, Side, Version},
    plan::Plan,
    report::Report,
    shim::{Caller, Shim},
};

/// How long a listener lives in milliseconds, and how many there are of that kind.
const KINDS: [(u64, usize); 3] = [(5, 1000), (50, 200), (500, 30)];

/// How long a subscriber may take until it hears, and what was told until it has it.
const UP: Duration = Duration::from_millis(1500);

/// The others' interval.
const POLL: Duration = Duration::from_secs(1);

/// The state of a listener in `/proc/net/tcp`: TCP_LISTEN.
const LISTEN: &str = "0A";

pub(super) fn measure(
    plan: &Plan,
    place: &Place,
    report: &mut Report,
    say: impl Fn(&str),
) -> Result<()> {
    let caller = Caller::new(place, Side::Ours, Version::V1_7, Runtime::Runc)?;
    let shim = caller.idle(Some(("io.lookout.observe", "on")))?;
    fs::copy(place.storm().join("ports"), shim.bundle.path.join("rootfs/ports"))?;
    let mut first = 2000;
    for (milliseconds, count) in KINDS {
        let count = if plan.quick { count / 5 } else { count };
        say(&format!("{count} listeners of {milliseconds} ms"));
        let kind = one(place, &shim, milliseconds, count, first)?;
        first += count + 1;
        report.fact(kind);
    }
    shim.end()
}

/// Listeners of one kind, with a subscriber and a poller; what came of it, in words.
fn one(
    place: &Place,
    shim: &Shim,
    milliseconds: u64,
    count: usize,
    first: usize,
) -> Result<String> {
    let subscriber = Subscriber::start(&shim.bundle.id)?;
    let poller = Poller::start(shim)?;
    thread::sleep(UP);
    let command = format!("/ports short {count} {} {first} > /result", milliseconds * 1000);
    shim.task.exec(&shim.bundle.id, &place.fresh("ports"), &["/bin/sh", "-c", &command])?;
    thread::sleep(UP);
    let (told, polled) = (subscriber.end()?, poller.end()?);
    let result = fs::read_to_string(shim.bundle.path.join("rootfs/result"))?;
    let mut made: Vec<(u16, u64)> = Vec::new();
    for line in result.lines() {
        let [_, _, port, at] = line.split_whitespace().collect::<Vec<_>>()[..] else { continue };
        made.push((port.parse()?, at.parse()?));
    }
    let mut latencies: Vec<f64> = Vec::new();
    for (port, listened_ns) in &made {
        // A port that the kernel chose may come again: the first that was told after it listened.
        let told = told.iter().filter(|told| told.port == *port && told.event_ns >= *listened_ns);
        if let Some(told) = told.min_by_key(|told| told.event_ns) {
            latencies.push(Duration::from_nanos(told.heard_ns - listened_ns).as_secs_f64() * 1e6);
        }
    }
    latencies.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        latencies.get((latencies.len() * percent / 100).min(latencies.len() - 1)).copied()
    };
    let (Some(median), Some(p99), Some(most)) = (at(50), at(99), at(100)) else {
        return Err("nothing was told".into());
    };
    let seen = made.iter().filter(|(port, _)| polled.contains(port)).count();
    Ok(format!(
        "listeners of {milliseconds} ms: {} of {} told; from listen(2) to a subscriber median {median:.0} µs, p99 {p99:.0} \
         µs, most {most:.0} µs; a poll of /proc/net/tcp each second saw {seen} of them",
        latencies.len(),
        made.len(),
    ))
}

/// One opening, as a subscriber had it.
struct Told {
    port: u16,
    event_ns: u64,
    heard_ns: u64,
}

/// Takes the openings of one shim.
struct Subscriber {
    leave: Arc<AtomicBool>,
    told: mpsc::Receiver<Told>,
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
        let (sender, told) = mpsc::channel();
        let leave = Arc::new(AtomicBool::new(false));
        let asked = leave.clone();
        let reader = thread::spawn(move || runtime.block_on(listen(shim, &asked, &sender)));
        Ok(Self { leave, told, reader })
    }

    fn end(self) -> Result<Vec<Told>> {
        self.leave.store(true, Ordering::Relaxed);
        self.reader.join().map_err(|_| "a subscriber panicked")?;
        Ok(self.told.iter().collect())
    }
}

async fn listen(shim: Registration, leave: &AtomicBool, sender: &mpsc::Sender<Told>) {
    let filters = vec![Filter { types: vec!["port.open".to_owned()], ..Default::default() }];
    let mut follow = Follow::new(shim, Wanted { filters, since: String::new(), follow: true });
    while !leave.load(Ordering::Relaxed) {
        let step = tokio::time::timeout(Duration::from_millis(100), follow.next()).await;
        let Ok(Step::Events(events)) = step else { continue };
        let heard_ns = now_ns();
        for event in &events {
            let Some(Body::Port(port)) = &event.body else { continue };
            let port = u16::try_from(port.port).unwrap_or_default();
            // The reader leaves last.
            let _ = sender.send(Told { port, event_ns: event.monotonic_ns, heard_ns });
        }
    }
}

/// Reads the lists of the container's network namespace once a second, as others do.
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

/// The port of a listener of `/proc/net/tcp`.
fn listener(line: &str) -> Option<u16> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, local, _, state, ..] = words[..] else { return None };
    u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok().filter(|_| state == LISTEN)
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or_default()
}
