//! An attack on the attribution: random walks (`tests/storm/walk.c`) through the ways in which a
//! process can hide where it comes from, in several containers at once. Each process records what
//! it does; afterwards each record must have its events, and each event its record.
//!
//! `hack/attack` runs it for longer, or again with a given seed.

mod compare;
mod log;
mod statements;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use self::{
    compare::{Comparison, Walk, compare},
    log::{Log, LogFile, Phase, StepCount},
    statements::find_false_statements,
};
use super::{setting, watch::sources::lock_connector};
use crate::harness::{
    containerd::{Containerd, ObservedEvent, Running, Subscriber, Version, is_unified},
    tools::tool,
};

/// How long the test runs if `LOOKOUT_ATTACK_SECONDS` is not set.
const SECONDS: u64 = 20;

/// The same for each source that misses a part, which fewer nodes use.
const SECONDS_WITH_GAPS: u64 = 8;

/// How many processes one walk makes, more or less.
const COUNT: u32 = 60;

/// How many walks run as execs of each container.
const EXECS: u32 = 3;

/// The longest time that the walks of a round take on a busy machine.
const ROUND: Duration = Duration::from_secs(60);

/// How many differences of a round are printed.
const PRINTED: usize = 20;

const GROUP: &str = "io.containerd.runc.v2.group";

/// Check that every process of every walk is reported once, in its own container, with its origin,
/// exec id, parent, arguments and status; that nothing else is reported; and that the account of
/// every container has no loss.
#[test]
fn every_process_of_a_random_walk_is_attributed_to_its_origin() {
    let containerd = started();
    warm_up(&containerd);
    attack(&containerd, SECONDS, Round::run);
    containerd.remove_own_bpffs();
    containerd.assert_nothing_left();
}

/// Check that the connector, which cannot know everything, says nothing false about a walk.
#[test]
fn the_connector_states_nothing_false_about_a_random_walk() {
    let containerd = started_with("connector");
    let _alone = lock_connector(&containerd);
    attack(&containerd, SECONDS_WITH_GAPS, Round::run_with_gaps);
    containerd.assert_nothing_left();
}

/// Check the same of polling.
#[test]
fn polling_states_nothing_false_about_a_random_walk() {
    let containerd = started_with("poll");
    attack(&containerd, SECONDS_WITH_GAPS, Round::run_with_gaps);
    containerd.assert_nothing_left();
}

/// Runs rounds for `seconds`, unless LOOKOUT_ATTACK_SECONDS says otherwise, and asserts that none
/// has a difference.
fn attack<'a>(
    containerd: &'a Containerd,
    seconds: u64,
    run: impl Fn(Round<'a>) -> (u64, Log, Comparison),
) {
    let seconds = setting("LOOKOUT_ATTACK_SECONDS").unwrap_or(seconds);
    let seed = setting("LOOKOUT_ATTACK_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        now.as_secs() % 1_000_000 * 1000
    });
    let begun = Instant::now();
    let mut total = Total::default();
    for round in 0.. {
        if round > 0 && begun.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
        total.add(run(Round::new(containerd, seed + round)));
    }
    total.print();
    let differences = total.differences.join("\n");
    assert!(differences.is_empty(), "the first seed was {seed}\n{differences}");
}

/// Check that each fault that can be planted in the tracker is found within a few rounds.
#[cfg(feature = "planted-faults")]
#[test]
fn every_planted_fault_is_found() {
    const FAULTS: [&str; 18] = [
        "drop-fork",
        "drop-exec",
        "drop-exit",
        "drop-done",
        "parents-parent",
        "earlier-image",
        "wrong-code",
        "no-status",
        "signal-as-code",
        "other-container",
        "fork-twice",
        "exit-twice",
        "start-as-exec",
        "other-exec",
        "no-exec",
        "injected",
        "hosts-pid",
        "wrong-account",
    ];
    // Most faults are found in the first round. One needs execs with records that alternate in a
    // certain way, which about every second round has.
    const ROUNDS: u64 = 16;
    let only = std::env::var("LOOKOUT_ATTACK_FAULT").unwrap_or_default();
    let mut missed = Vec::new();
    for fault in FAULTS.into_iter().filter(|fault| only.is_empty() || *fault == only) {
        let mut containerd = started();
        containerd.restart_with("LOOKOUT_PLANTED_FAULT", fault);
        warm_up(&containerd);
        let found = (1..=ROUNDS).find_map(|seed| {
            let (_, _, comparison) = Round::new(&containerd, seed).run();
            let first = comparison.differences.first().cloned()?;
            Some((seed, comparison.differences.len(), first))
        });
        match found {
            Some((seed, count, first)) => {
                println!("{fault}: found by seed {seed}, {count} differences, such as\n  {first}");
            }
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

fn started() -> Containerd {
    // A test build is slow, and the account must not have a loss.
    let room = "journal_max = \"64MiB\"\nring_size = \"4MiB\"\n";
    let mut containerd = Containerd::start_configured(Version::V1_7, room);
    // So that the programs are those of this build, whatever other shims of the node have loaded.
    containerd.use_own_bpffs();
    containerd
}

/// A daemon of which the shims use a source other than bpf.
fn started_with(source: &str) -> Containerd {
    let settings = format!("journal_max = \"64MiB\"\nsource = \"{source}\"\n");
    Containerd::start_configured(Version::V1_7, &settings)
}

/// The first container may wait in vain until the programs are loaded, and then has a gap.
fn warm_up(containerd: &Containerd) {
    containerd.run("first", &["--rm"], &["true"]).run().success();
}

/// The containers of a round, two of them in one pod, and their walks.
struct Round<'a> {
    containerd: &'a Containerd,
    subscriber: Subscriber,
    seed: u64,
    log: LogFile,
    containers: [Container; 4],
    walks: BTreeMap<u32, Walk>,
}

#[derive(Debug)]
struct Container {
    id: String,
    flags: Vec<String>,
}

impl<'a> Round<'a> {
    fn new(containerd: &'a Containerd, seed: u64) -> Self {
        let pod = format!("{GROUP}=pod{seed}");
        let in_pod = ["--annotation".to_owned(), pod];
        let host_pids =
            ["--with-ns".to_owned(), format!("pid:/proc/{}/ns/pid", std::process::id())];
        let container = |name: &str, flags: &[String]| Container {
            id: format!("{name}{seed}"),
            flags: flags.to_vec(),
        };
        let containers = [
            container("a", &in_pod),
            container("b", &in_pod),
            container("neighbour", &[]),
            container("host", &host_pids),
        ];
        let log = LogFile::create(containerd.path(&format!("walk-{seed}")));
        let (subscriber, walks) = (containerd.subscribe(), BTreeMap::new());
        Self { containerd, subscriber, seed, log, containers, walks }
    }

    /// Runs the walks, and compares all that is reported of them.
    fn run(mut self) -> (u64, Log, Comparison) {
        let (log, events, closes) = self.walk();
        let mut comparison = compare(&log, &self.walks, &events);
        for close in &closes {
            let [seen, delivered, lost] =
                ["/seen", "/delivered", "/lost"].map(|name| close.number(name));
            if lost != Some(0) || seen != delivered {
                comparison.differences.push(format!("the account is not even: {close:?}"));
            }
        }
        for gap in events.iter().filter(|event| event.kind() == "observer.gap") {
            comparison.differences.push(format!("a gap: {gap:?}"));
        }
        (self.seed, log, comparison)
    }

    /// Runs the walks, and checks what is reported of them by a source that misses a part.
    fn run_with_gaps(mut self) -> (u64, Log, Comparison) {
        let (log, events, _) = self.walk();
        let mut comparison = find_false_statements(&log, &self.walks, &events);
        for id in self.containers.iter().map(|container| &container.id) {
            let is_gap = |event: &ObservedEvent| {
                event.kind() == "observer.gap" && event.container() == id.as_str()
            };
            if !events.iter().any(is_gap) {
                comparison.differences.push(format!("{id} has no gap"));
            }
        }
        (self.seed, log, comparison)
    }

    /// Runs the walks. Returns what they recorded, all events, and the account of each container.
    fn walk(&mut self) -> (Log, Vec<ObservedEvent>, [ObservedEvent; 4]) {
        let ids = self.containers.each_ref().map(|container| container.id.clone());
        for number in 0..self.containers.len() {
            self.start(number);
        }
        self.log.set(Phase::Walk);
        let mut execs = Vec::new();
        for number in 1..=EXECS {
            for id in &ids {
                execs.push(self.exec(id, &format!("walk-{number}")));
            }
        }
        for exec in execs {
            // Its status is any, and is compared with the event.
            exec.wait();
        }
        self.wait_for_ends(ids.len());
        self.log.set(Phase::Stop);
        for id in &ids {
            self.containerd.wait_for_status(id, "STOPPED");
            self.containerd.remove(id);
        }
        let closes = ids.each_ref().map(|id| self.subscriber.wait_close(id));
        let events = self.subscriber.all();
        let log = self.log.read();
        let _ = fs::remove_file(self.log.path());
        (log, events, closes)
    }

    /// Starts a container with an init that waits for the others.
    fn start(&mut self, number: usize) {
        let Container { id, flags } = &self.containers[number];
        let (id, mut flags) = (id.clone(), flags.clone());
        flags.extend(["--detach".to_owned(), "--privileged".to_owned()]);
        let program = tool("storm/bin/walk");
        for (from, to, access) in [
            (&*program, "/walk", "ro"),
            (self.log.path(), "/log", "rw"),
            (Path::new("/proc"), "/host-proc", "ro"),
            (&*unified(), "/cgroups", "rw"),
        ] {
            let from = from.display();
            flags.push("--mount".to_owned());
            flags.push(format!("type=bind,src={from},dst={to},options=rbind:{access}"));
        }
        let command = self.command("init", &id, None);
        let (flags, command): (Vec<&str>, Vec<&str>) = (
            flags.iter().map(String::as_str).collect(),
            command.iter().map(String::as_str).collect(),
        );
        self.containerd.run(&id, &flags, &command).run().success();
    }

    fn exec(&mut self, id: &str, exec_id: &str) -> Running {
        let command = self.command("root", id, Some(exec_id.to_owned()));
        let mut arguments = vec!["task", "exec", "--exec-id", exec_id, id];
        arguments.extend(command.iter().map(String::as_str));
        self.containerd.program(&arguments).within(ROUND).spawn()
    }

    /// The command line of a new walk.
    fn command(&mut self, kind: &str, id: &str, exec_id: Option<String>) -> Vec<String> {
        let number = u32::try_from(self.walks.len()).expect("few") + 1;
        self.walks.insert(number, Walk { container: id.to_owned(), exec_id });
        let seed = self.seed.wrapping_mul(1_000).wrapping_add(number.into());
        let mut command: Vec<String> = ["/walk", kind, "/log"].map(str::to_owned).to_vec();
        command.extend([number.to_string(), seed.to_string(), COUNT.to_string()]);
        let host = self.containerd.daemon_pid().expect("the daemon runs");
        command.extend(["/host-proc".to_owned(), host.to_string()]);
        let namespace = self.containerd.namespace();
        let cgroups = self.containers.iter().map(|container| format!("/{}", container.id));
        let cgroups = cgroups.map(|path| format!("/cgroups/{namespace}{path}"));
        command.extend(["/cgroups".to_owned()].into_iter().chain(cgroups));
        command
    }

    /// Waits until only the inits of the containers live.
    fn wait_for_ends(&self, inits: usize) {
        let end = Instant::now() + ROUND;
        loop {
            let living = self.living();
            if living.len() == inits {
                return;
            }
            if Instant::now() > end {
                let states = living.iter().map(|pid| {
                    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
                    let text =
                        ["stat", "wchan", "cmdline"].map(|name| read(name).unwrap_or_default());
                    text.join(" ").replace('\0', " ")
                });
                let states: Vec<String> = states.collect();
                panic!("seed {}: walks do not end:\n{}", self.seed, states.join("\n"));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The pids of the processes of the walks that live.
    fn living(&self) -> Vec<u32> {
        let log = self.log.read();
        let identities = log.births.iter().filter_map(|birth| birth.identity);
        let alive = identities.filter(|(pid, start)| start_of(*pid) == Some(*start));
        alive.map(|(pid, _)| pid).collect()
    }
}

/// Field 22 of a process's stat.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The root of the unified cgroup hierarchy.
fn unified() -> PathBuf {
    let root = Path::new("/sys/fs/cgroup");
    if is_unified() { root.to_owned() } else { root.join("unified") }
}

/// The sums of all rounds.
#[derive(Debug, Default)]
struct Total {
    rounds: usize,
    processes: usize,
    vague: usize,
    missing: usize,
    /// Of each round the first ones, which are printed again at the end.
    differences: Vec<String>,
    steps: Vec<StepCount>,
}

impl Total {
    fn add(&mut self, (seed, log, comparison): (u64, Log, Comparison)) {
        self.rounds += 1;
        self.processes += comparison.processes;
        self.vague += comparison.vague;
        self.missing += comparison.missing;
        if self.steps.is_empty() {
            self.steps = log.steps;
        } else {
            for (sum, step) in self.steps.iter_mut().zip(&log.steps) {
                sum.done += step.done;
                sum.failed += step.failed;
                for (sum, count) in sum.followers.iter_mut().zip(&step.followers) {
                    *sum += count;
                }
            }
        }
        let differences = comparison.differences.len();
        println!("seed {seed}: {} processes, {differences} differences", comparison.processes);
        for difference in comparison.differences.iter().take(PRINTED) {
            println!("{difference}");
            self.differences.push(format!("seed {seed}: {difference}"));
        }
    }

    fn print(&self) {
        let Self { rounds, processes, vague, missing, differences, steps } = self;
        let named = || steps.iter().filter(|step| !step.name.is_empty());
        let sum: u32 = named().map(|step| step.done).sum();
        let pairs = named().flat_map(|step| &step.followers).filter(|count| **count > 0).count();
        println!(
            "{rounds} rounds, {processes} processes ({vague} of them vague, {missing} not \
             reported), {sum} steps, {pairs} pairs of steps, {} differences",
            differences.len()
        );
        for step in named() {
            let next = step.followers.iter().filter(|count| **count > 0).count();
            let StepCount { name, done, failed, .. } = step;
            println!("  {name:<14} {done:>7} done {failed:>6} failed, before {next:>2} others");
        }
    }
}
