//! What watching costs the watched: a storm of processes in a container that is watched and in one that is
//! not, in turns; then among a hundred others that are watched and not; and what other observers cost.

use std::{
    fs,
    io::{BufRead, BufReader, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lookout::{
    api::event::Body,
    client::{self, Follow, Registration, Step, Wanted},
};
use nix::{sys::signal::Signal, unistd::Pid};

use crate::{
    Result,
    place::{Place, Runtime, Side, Version},
    plan::Plan,
    report::{Budget, Report, Unit},
    samples::Samples,
    shim::{Caller, Shim},
};

/// Processes of a storm.
const COUNT: usize = 20_000;

/// How many make them: one a processor.
const WORKERS: usize = 2;

/// How many containers are beside.
const OTHERS: usize = 100;

/// How long an observer may take until it observes.
const UP: Duration = Duration::from_millis(1500);

/// Who follows the watched container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follower {
    /// The closing record only.
    Close,
    /// Everything, kept as it came by this program.
    All,
    /// Everything, printed as JSON.
    Json,
}

pub(super) fn measure(plan: &Plan, place: &Place, report: &mut Report, say: impl Fn(&str)) -> Result<()> {
    let caller = Caller::new(place, Side::Ours, Version::V1_7, Runtime::Runc)?;
    say("storms without any program loaded");
    let unwatched = container(place, &caller, "off")?;
    let mut bare = Samples::default();
    for _ in 0..plan.watches {
        bare.push(storm(place, &unwatched)?);
    }
    let watched = container(place, &caller, "on")?;
    let (mut without, mut close) = (Samples::default(), Samples::default());
    let (mut all, mut json) = (Samples::default(), Samples::default());
    let (mut told, mut printed, mut cpu) = (0, 0, 0.0);
    for round in 1..=plan.watches {
        say(&format!("storms watched and not, round {round}"));
        without.push(storm(place, &unwatched)?);
        let before = observer_seconds(watched.pid)?;
        close.push(followed(place, &watched, Follower::Close)?.0);
        cpu += observer_seconds(watched.pid)? - before;
        without.push(storm(place, &unwatched)?);
        let (rate, starts) = followed(place, &watched, Follower::All)?;
        all.push(rate);
        told += starts;
        without.push(storm(place, &unwatched)?);
        let (rate, starts) = followed(place, &watched, Follower::Json)?;
        json.push(rate);
        printed += starts;
    }
    let budget = |ratio| Some(Budget::RatioAtLeast(ratio));
    report.watching("watched; nobody asks but for the close", Unit::PerSecond, &close, &without, budget(0.93));
    report.watching("watched; all of it followed", Unit::PerSecond, &all, &without, budget(0.88));
    report.watching("watched; all of it printed as JSON", Unit::PerSecond, &json, &without, None);
    report.watching("not watched; programs loaded for others", Unit::PerSecond, &without, &bare, None);
    let rounds = plan.watches;
    let events = rounds * COUNT * 3;
    let starts = rounds * COUNT;
    report.fact(format!("told to the follower of all: {told} of {starts} starts with the right argument"));
    report.fact(format!("printed as JSON: {printed} of {starts}"));
    report.fact(format!(
        "the observer's thread: {:.2} µs of processor a kernel record (fork, exec, exit), {:.0} records/s",
        cpu / f64::from(u32::try_from(events)?) * 1e6,
        close.median() * 3.0
    ));
    others(plan, place, &caller, &watched, report, &say)?;
    watched.end()?;
    tools(plan, place, &unwatched, report, &say)?;
    unwatched.end()
}

/// The same storm among a hundred containers that are watched, and among as many that are not: the containers
/// themselves cost their neighbours something, too.
fn others(
    plan: &Plan,
    place: &Place,
    caller: &Caller,
    watched: &Shim,
    report: &mut Report,
    say: &impl Fn(&str),
) -> Result<()> {
    let (mut with, mut without) = (Samples::default(), Samples::default());
    for round in 1..=2 {
        for (observe, rates) in [("off", &mut without), ("on", &mut with)] {
            say(&format!("storms among {OTHERS} with observe={observe}, round {round}"));
            let one = || caller.idle(Some(("io.lookout.observe", observe)));
            let crowd = (0..OTHERS).map(|_| one()).collect::<Result<Vec<_>>>()?;
            thread::sleep(plan.settle);
            for _ in 0..plan.watches {
                rates.push(storm(place, watched)?);
            }
            crowd.into_iter().try_for_each(Shim::end)?;
        }
    }
    let what = format!("watched, among {OTHERS} others: they watched, and not");
    report.watching(&what, Unit::PerSecond, &with, &without, Some(Budget::RatioAtLeast(0.98)));
    Ok(())
}

/// What others that tell execs cost, and how many of them they tell.
fn tools(plan: &Plan, place: &Place, unwatched: &Shim, report: &mut Report, say: &impl Fn(&str)) -> Result<()> {
    let known: [(&str, &[&str]); 2] =
        [("execsnoop", &["execsnoop"]), ("forkstat", &["forkstat", "-l", "-e", "exec,exit"])];
    for (name, command) in known {
        let (mut with, mut without, mut right) = (Samples::default(), Samples::default(), 0);
        for round in 1..=plan.watches.div_ceil(2) {
            say(&format!("storms beside {name}, round {round}"));
            without.push(storm(place, unwatched)?);
            let tool = Outside::start(place, command)?;
            thread::sleep(UP);
            with.push(storm(place, unwatched)?);
            thread::sleep(UP);
            right += tool.end()?;
        }
        report.watching(&format!("beside {name}"), Unit::PerSecond, &with, &without, None);
        report.fact(format!("{name} told {right} of {} execs with the right argument", with.all().len() * COUNT));
    }
    Ok(())
}

/// A container with the storm in it.
fn container(place: &Place, caller: &Caller, observe: &str) -> Result<Shim> {
    let shim = caller.idle(Some(("io.lookout.observe", observe)))?;
    for name in ["storm", "leaf"] {
        fs::copy(place.storm().join(name), shim.bundle.path.join("rootfs").join(name))?;
    }
    Ok(shim)
}

/// One storm; processes a second.
fn storm(place: &Place, shim: &Shim) -> Result<f64> {
    storm_from(place, shim, 0)
}

/// One whose leaves have the numbers from `first` on.
fn storm_from(place: &Place, shim: &Shim, first: usize) -> Result<f64> {
    let command = format!("/storm {COUNT} {WORKERS} {first} > /result");
    shim.task.exec(&shim.bundle.id, &place.fresh("storm"), &["/bin/sh", "-c", &command])?;
    let result = fs::read_to_string(shim.bundle.path.join("rootfs/result"))?;
    let nanoseconds: f64 = result.split_whitespace().nth(1).ok_or("no result of the storm")?.parse()?;
    Ok(f64::from(u32::try_from(COUNT)?) / nanoseconds * 1e9)
}

/// One storm with somebody who follows; processes a second, and how many starts he was told rightly.
fn followed(place: &Place, shim: &Shim, follower: Follower) -> Result<(f64, usize)> {
    // Numbers of its own, so that what the journal still has of another storm does not count.
    static NEXT: AtomicUsize = AtomicUsize::new(COUNT);
    let first = NEXT.fetch_add(COUNT, Ordering::Relaxed);
    if follower == Follower::All {
        let counter = Counter::start(&shim.bundle.id, first)?;
        thread::sleep(UP);
        let rate = storm_from(place, shim, first)?;
        thread::sleep(UP);
        return Ok((rate, counter.end()?));
    }
    let mut command = Command::new(place.lookout());
    command.args(["events", "-f", "-o", "jsonl", "--container", &shim.bundle.id]);
    if follower == Follower::Close {
        command.args(["--type", "container.close"]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let listener = Listener::start(command.spawn()?, first)?;
    thread::sleep(UP);
    let rate = storm_from(place, shim, first)?;
    thread::sleep(UP);
    Ok((rate, listener.end()?))
}

/// Takes everything that a shim tells, and counts the leaves.
struct Counter {
    leave: Arc<AtomicBool>,
    counted: thread::JoinHandle<usize>,
}

impl Counter {
    fn start(shim_id: &str, first: usize) -> Result<Self> {
        let shims = client::registrations(&client::runtime_dir(), None)?;
        let shim = shims.into_iter().find(|shim| shim.id == shim_id).ok_or("the shim is not registered")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let leave = Arc::new(AtomicBool::new(false));
        let asked = leave.clone();
        let counted = thread::spawn(move || runtime.block_on(count(shim, &asked, first)));
        Ok(Self { leave, counted })
    }

    fn end(self) -> Result<usize> {
        self.leave.store(true, Ordering::Relaxed);
        self.counted.join().map_err(|_| "a counter panicked".into())
    }
}

/// Takes everything as it comes, and looks at it when the storm is over: what a forwarder does.
async fn count(shim: Registration, leave: &AtomicBool, first: usize) -> usize {
    let mut follow = Follow::new(shim, Wanted { filters: Vec::new(), since: String::new(), follow: true });
    let mut taken = Vec::new();
    while !leave.load(Ordering::Relaxed) {
        let step = tokio::time::timeout(Duration::from_millis(100), follow.next_batch()).await;
        if let Ok(Step::Events(batch)) = step {
            taken.push(batch);
        }
    }
    let mut seen = vec![false; COUNT];
    let starts = taken.iter().flat_map(|batch| batch.iter()).filter(|event| event.type_ == b"process.start");
    for event in starts.filter_map(|event| event.decode().ok()) {
        let Some(Body::Process(process)) = &event.body else { continue };
        let [name, number] = &process.args[..] else { continue };
        let number = str::from_utf8(number).ok().and_then(|number| number.parse::<usize>().ok());
        let place = number.and_then(|number| number.checked_sub(first)).filter(|place| *place < COUNT);
        if let Some(place) = place.filter(|_| name == b"leaf") {
            seen[place] = true;
        }
    }
    seen.iter().filter(|seen| **seen).count()
}

/// A tool that `hack/bench` runs outside of our PID namespace, where it sees the node.
struct Outside {
    folder: PathBuf,
}

impl Outside {
    fn start(place: &Place, command: &[&str]) -> Result<Self> {
        let tool = Self { folder: place.folder().to_owned() };
        tool.say(&command.join(" "))?;
        Ok(tool)
    }

    /// Ends it, and says how many leaves it told.
    fn end(self) -> Result<usize> {
        let ended = self.folder.join("outside.ended");
        self.say("")?;
        let begun = Instant::now();
        while fs::remove_file(&ended).is_err() {
            if begun.elapsed() > 10 * UP {
                return Err("a tool does not end".into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        let told = fs::File::open(self.folder.join("outside.told"))?;
        Ok(leaves(BufReader::new(told), 0))
    }

    fn say(&self, line: &str) -> Result<()> {
        let mut commands = fs::File::options().write(true).open(self.folder.join("outside"))?;
        Ok(writeln!(commands, "{line}")?)
    }
}

/// How many leaves are told, each with its own number.
fn leaves(told: impl BufRead, first: usize) -> usize {
    let mut seen = vec![false; COUNT];
    for line in told.lines().map_while(std::result::Result::ok) {
        let place = leaf(&line).and_then(|number| number.checked_sub(first));
        if let Some(place) = place.filter(|place| *place < COUNT) {
            seen[place] = true;
        }
    }
    seen.iter().filter(|seen| **seen).count()
}

/// Counts the leaves that a program tells on its stdout.
struct Listener {
    child: Child,
    counted: thread::JoinHandle<usize>,
}

impl Listener {
    fn start(mut child: Child, first: usize) -> Result<Self> {
        let stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let counted = thread::spawn(move || leaves(stdout, first));
        Ok(Self { child, counted })
    }

    fn end(mut self) -> Result<usize> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        nix::sys::signal::kill(pid, Signal::SIGINT)?;
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > UP {
                self.child.kill()?;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.counted.join().map_err(|_| "a listener panicked".into())
    }
}

/// The number of the leaf that a line tells the start of: ours as JSON, others as words.
fn leaf(line: &str) -> Option<usize> {
    let digits = |text: &str| text.split(|digit: char| !digit.is_ascii_digit()).next()?.parse().ok();
    if line.starts_with('{') {
        let start = line.contains(r#""type":"process.start""#);
        return start.then(|| digits(line.split_once(r#"["leaf",""#)?.1)).flatten();
    }
    // Its arguments come last; its name may come before.
    digits(line.rsplit_once("leaf ")?.1)
}

/// Seconds of processor that the shim's observer has used.
fn observer_seconds(shim: Pid) -> Result<f64> {
    for task in fs::read_dir(format!("/proc/{shim}/task"))? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim() == "observe" {
            let statistics = fs::read_to_string(task.join("schedstat"))?;
            let nanoseconds: f64 = statistics.split_whitespace().next().ok_or("no statistics")?.parse()?;
            return Ok(nanoseconds / 1e9);
        }
    }
    Err("the shim has no observer".into())
}
