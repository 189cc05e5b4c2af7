//! Random lives of a container's processes, from a good source and from a bad one.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::model::Origin;

/// A process as it really was.
#[derive(Debug, Clone)]
struct Life {
    key: ProcessKey,
    parent: ProcessKey,
    image: String,
    execed: bool,
    alive: bool,
}

/// A random history: each record with its time, and the event that an exact observer emits for it.
#[derive(Debug, Default)]
struct World {
    lives: Vec<Life>,
    records: Vec<(u64, ProcessKey, What)>,
    expected: Vec<String>,
    next_pid: i32,
}

/// A choice of the next record and of its process.
type Choice = (u8, u16);

impl World {
    fn new(choices: &[Choice]) -> Self {
        let mut world = Self::default();
        let init = ProcessKey::new(INIT, 10);
        let shim = ProcessKey::new(SHIM, 1);
        world.lives.push(Life {
            key: init,
            parent: shim,
            image: "/init".into(),
            execed: true,
            alive: true,
        });
        world.happens(
            init,
            exec(of(shim), "/init", Some(false)),
            "process.start 200 /init init".into(),
        );
        for choice in choices {
            world.choose(*choice);
        }
        world
    }

    /// Lets one living process fork, call execve(2) or exit.
    fn choose(&mut self, (choice, who): Choice) {
        let living: Vec<usize> =
            (0..self.lives.len()).filter(|&index| self.lives[index].alive).collect();
        let index = living[usize::from(who) % living.len()];
        let Life { key, parent, execed, .. } = self.lives[index].clone();
        match choice % 4 {
            0 | 1 => self.fork(index),
            2 => {
                let image = format!("/bin/{}", self.records.len());
                let kind = if execed { "exec" } else { "start" };
                let origin = if key.pid == INIT { Origin::Init } else { Origin::Descendant };
                let line = format!("process.{kind} {} {image} {}", key.pid, origin.as_str());
                self.happens(key, exec(of(parent), &image, Some(false)), line);
                self.lives[index].image = image;
                self.lives[index].execed = true;
            }
            _ if key.pid == INIT => {}
            _ => {
                let status = u32::from(choice);
                let line = format!("process.exit {} {status}", key.pid);
                self.happens(key, exit(Some(status << 8)), line);
                self.lives[index].alive = false;
            }
        }
    }

    fn fork(&mut self, parent: usize) {
        let Life { key, image, .. } = self.lives[parent].clone();
        // Few pids, so that they are reused; a later start each time.
        let free = (0..20)
            .map(|step| 1000 + (self.next_pid + step) % 20)
            .find(|pid| self.lives.iter().all(|life| !life.alive || life.key.pid != *pid));
        let Some(pid) = free else { return };
        self.next_pid = pid - 999;
        let child = ProcessKey::new(pid, 100 + self.lives.len() as u64);
        let line = format!("process.fork {pid} {image} descendant");
        self.happens(child, What::Fork(of(key)), line);
        self.lives.push(Life { key: child, parent: key, image, execed: false, alive: true });
    }

    fn happens(&mut self, key: ProcessKey, what: What, expected: String) {
        let at_ns = 1000 + 10 * self.records.len() as u64;
        self.records.push((at_ns, key, what));
        self.expected.push(expected);
    }

    fn end_ns(&self) -> u64 {
        1000 + 10 * self.records.len() as u64
    }
}

fn of(parent: ProcessKey) -> Lineage {
    Lineage { parent: Some(parent), ..Lineage::default() }
}

/// A tracker that is given the records of a world, and its emissions.
struct Observer {
    script: Script,
    emitted: Vec<Emission>,
    answered: usize,
}

impl Observer {
    fn new() -> Self {
        Self { script: Script::new(), emitted: Vec::new(), answered: 0 }
    }

    fn receive(&mut self, at_ns: u64, key: ProcessKey, what: What) {
        let record = Record::Process {
            target: HERE,
            at_ns,
            grade: Grade::Exact,
            key,
            provenance: None,
            what,
        };
        self.script.tracker.record(record);
        self.take(at_ns, !self.answered.is_multiple_of(3));
    }

    fn receive_scan(&mut self, at_ns: u64, step: ScanStep) {
        self.script.tracker.record(Record::Scan { target: HERE, at_ns, step });
        self.take(at_ns, !self.answered.is_multiple_of(3));
    }

    /// Collects the emissions and answers the queries, now or with the next record.
    fn take(&mut self, at_ns: u64, answer: bool) {
        self.answered += 1;
        if !answer {
            return;
        }
        let mut effects = self.script.tracker.take_effects();
        while !effects.is_empty() {
            for effect in effects {
                match effect {
                    Effect::Emit(emission) => self.emitted.push(emission),
                    Effect::QueryReaped { target, key } => {
                        self.script.tracker.confirm_reaped(target, key, at_ns)
                    }
                    Effect::QueryHolders { target, key, among, .. } => {
                        let holders = if at_ns.is_multiple_of(20) { among } else { Vec::new() };
                        self.script.tracker.set_holders(target, key, &holders, at_ns);
                    }
                    Effect::Scan { .. } => {}
                }
            }
            effects = self.script.tracker.take_effects();
        }
    }

    fn scan(&mut self, world: &World) {
        let at_ns = world.end_ns() + 10;
        self.receive_scan(at_ns, ScanStep::Began);
        for life in world.lives.iter().rev().filter(|life| life.alive) {
            self.receive(at_ns, life.key, alive(of(life.parent), &life.image));
        }
        self.receive_scan(at_ns + 1, ScanStep::Ended);
        self.take(at_ns + 1, true);
    }

    fn end(&mut self, world: &World, seen: u64, lost: u64) {
        let at_ns = world.end_ns() + 20;
        self.take(at_ns, true);
        self.script.tracker.end(HERE, Some((seen, lost)), at_ns);
        self.take(at_ns, true);
    }

    fn lines(&self) -> Vec<String> {
        self.emitted.iter().map(|emission| line(&Effect::Emit(emission.clone()))).collect()
    }
}

/// Checks what is true with any source.
fn check(world: &World, observer: &Observer, records: u64, lost: u64) -> Result<(), TestCaseError> {
    let real: HashSet<ProcessKey> = world.lives.iter().map(|life| life.key).collect();
    let (mut forked, mut started, mut seen, mut ended, mut done) =
        (HashSet::new(), HashSet::new(), HashSet::new(), HashSet::new(), HashSet::new());
    for emission in &observer.emitted {
        let Some(process) = emission.body.process() else { continue };
        let key = process.key;
        prop_assert!(real.contains(&key), "{key:?} never was");
        match &emission.body {
            Body::Fork(_) => {
                prop_assert!(
                    forked.insert(key) && seen.insert(key),
                    "{key:?} forked twice or late"
                );
            }
            Body::Start(_) => {
                prop_assert!(started.insert(key), "{key:?} started twice");
                prop_assert!(!ended.contains(&key), "{key:?} started after its end");
                seen.insert(key);
            }
            Body::Exec(_) => {
                prop_assert!(!ended.contains(&key), "{key:?} execed after its end");
                seen.insert(key);
            }
            Body::Exit { .. } => {
                prop_assert!(seen.contains(&key), "{key:?} ended before it began");
                prop_assert!(ended.insert(key), "{key:?} ended twice");
            }
            Body::Done { .. } => {
                prop_assert!(
                    ended.contains(&key) && done.insert(key),
                    "{key:?} done twice or alive"
                );
            }
            _ => {}
        }
    }
    prop_assert_eq!(&seen, &ended, "every reported process ends");
    prop_assert_eq!(&seen, &done, "and is done");
    let counts = observer.emitted.iter().find_map(|emission| match emission.body {
        Body::ContainerClose(counts) => Some(counts),
        _ => None,
    });
    let counts = counts.expect("a close");
    let delivered = observer.emitted.iter().filter(|emission| !emission.derived).count() as u64;
    prop_assert_eq!(counts.delivered, delivered);
    prop_assert_eq!(counts.delivered + counts.runtime, records);
    prop_assert_eq!(counts.seen, Some(counts.delivered + lost));
    prop_assert!(matches!(
        observer.emitted.last().map(|emission| &emission.body),
        Some(Body::ContainerClose(_))
    ));
    Ok(())
}

/// Checks a world with a source that delivers all records in order.
fn check_in_order(world: &World) -> Result<(), TestCaseError> {
    let mut observer = Observer::new();
    for (at_ns, key, what) in &world.records {
        observer.receive(*at_ns, *key, what.clone());
    }
    observer.take(world.end_ns(), true);
    let mut lines = observer.lines();
    lines.retain(|line| !line.starts_with("process.done"));
    prop_assert_eq!(&lines, &world.expected);
    let snapshot = observer.script.tracker.snapshot(None);
    let living: HashSet<ProcessKey> = snapshot.iter().map(|(_, process)| process.key).collect();
    let real: HashSet<ProcessKey> =
        world.lives.iter().filter(|life| life.alive).map(|life| life.key).collect();
    prop_assert_eq!(living, real);
    // A scan that agrees with what is known reports nothing.
    let before = observer.emitted.len();
    observer.scan(world);
    prop_assert_eq!(observer.emitted.len(), before, "{:?}", &observer.lines()[before..]);
    let records = world.records.len() as u64;
    observer.end(world, records, 0);
    check(world, &observer, records, 0)
}

/// What a bad source does to a record: 0 loses it, 1 doubles it; and the delays of both copies.
type Fate = (u8, u64, u64);

/// Checks a world with a source that loses, doubles and reorders records.
fn check_with_losses(world: &World, fates: &[Fate]) -> Result<(), TestCaseError> {
    let mut arriving: Vec<(u64, u64, ProcessKey, What)> = Vec::new();
    let mut lost = 0;
    for ((at_ns, key, what), (fate, late, later)) in world.records.iter().zip(fates) {
        if *fate == 0 {
            lost += 1;
            continue;
        }
        arriving.push((at_ns + late, *at_ns, *key, what.clone()));
        if *fate == 1 {
            arriving.push((at_ns + later, *at_ns, *key, what.clone()));
        }
    }
    arriving.sort_by_key(|(arrives, at_ns, ..)| (*arrives, *at_ns));
    let mut observer = Observer::new();
    // The runtime's start has ended.
    observer.script.tracker.init_may_run(HERE);
    let records = arriving.len() as u64;
    for (_, at_ns, key, what) in arriving {
        observer.receive(at_ns, key, what);
    }
    observer.scan(world);
    let living: HashMap<ProcessKey, String> = observer
        .script
        .tracker
        .snapshot(None)
        .iter()
        .map(|(_, process)| {
            let executable = process.image.executable.as_deref().unwrap_or_default();
            (process.key, String::from_utf8_lossy(executable).into_owned())
        })
        .collect();
    let real: HashMap<ProcessKey, String> = world
        .lives
        .iter()
        .filter(|life| life.alive)
        .map(|life| (life.key, life.image.clone()))
        .collect();
    prop_assert_eq!(living, real, "after a scan all living processes and their images are known");
    observer.end(world, records + lost, lost);
    check(world, &observer, records, lost)
}

/// Any record or report: its kind, pid, parent's pid, start and time.
type Input = (u8, i32, i32, u64, u64);

/// Gives a tracker one input. Returns whether it was a record that the account counts.
fn apply(tracker: &mut Tracker, (kind, pid, parent, ticks, at_ns): Input) -> bool {
    let key = ProcessKey::new(pid, ticks);
    let lineage = Lineage { parent: Some(ProcessKey::new(parent, ticks)), ..Lineage::default() };
    let in_host_mounts = [None, Some(true), Some(false)];
    let what = match kind {
        0..=2 => What::Fork(lineage),
        3..=5 => exec(lineage, "/bin/x", in_host_mounts[usize::from(kind - 3)]),
        6 => exit_holding(9),
        7 => exit(None),
        8 => alive(lineage, "/bin/y"),
        9 | 10 => {
            let step = if kind == 9 { ScanStep::Began } else { ScanStep::Ended };
            tracker.record(Record::Scan { target: HERE, at_ns, step });
            return false;
        }
        _ => {
            report(tracker, (kind, pid, parent, ticks, at_ns));
            return false;
        }
    };
    tracker.record(Record::Process {
        target: HERE,
        at_ns,
        grade: Grade::Partial,
        key,
        provenance: None,
        what,
    });
    kind <= 7
}

fn report(tracker: &mut Tracker, (kind, pid, parent, ticks, at_ns): Input) {
    let key = ProcessKey::new(pid, ticks);
    let process = if pid == 2 { ProcessId::Init } else { of_exec("exec") };
    match kind {
        11 => tracker.reaped_exit(HERE, &process, pid, Ended::Code(3), at_ns),
        12 => tracker.confirm_reaped(HERE, key, at_ns),
        13 => {
            let holder = ProcessKey::new(parent, ticks);
            tracker.set_holders(HERE, key, &[holder], at_ns);
        }
        14 => {
            tracker.expect_output_end(HERE, &process);
            tracker.output_ended(HERE, &process, at_ns);
            tracker.report_held(at_ns, 3);
        }
        15 => {
            tracker.runtime_exec(HERE, &"exec".into(), parent);
            tracker.exec_started(HERE, &"exec".into(), pid);
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Check that in order each record gives exactly its event.
    #[test]
    fn in_order_the_events_are_exact(choices in prop::collection::vec(any::<Choice>(), 0..120)) {
        check_in_order(&World::new(&choices))?;
    }

    /// Check that a source that loses, doubles and reorders makes no false event, and that a scan
    /// corrects it.
    #[test]
    fn a_bad_source_makes_no_false_events(
        choices in prop::collection::vec(any::<Choice>(), 0..120),
        fates in prop::collection::vec((0_u8..10, 0_u64..40, 0_u64..40), 200),
    ) {
        check_with_losses(&World::new(&choices), &fates)?;
    }

    /// Check that no sequence of records and reports of the shim, true or not, breaks the tracker.
    #[test]
    fn nothing_breaks_it(
        inputs in prop::collection::vec(
            (0_u8..16, 0_i32..6, 0_i32..6, 0_u64..3, 0_u64..60),
            0..200,
        ),
    ) {
        let mut tracker = Tracker::new(1);
        tracker.begin(HERE, Some(2));
        let mut records = 0;
        for input in inputs {
            records += u64::from(apply(&mut tracker, input));
        }
        tracker.end(HERE, Some((records, 0)), 100);
        let effects = tracker.take_effects();
        let Some(Effect::Emit(Emission { body: Body::ContainerClose(counts), .. })) =
            effects.last()
        else {
            return Err(TestCaseError::fail("no close"));
        };
        prop_assert_eq!(counts.seen, Some(counts.delivered));
        prop_assert_eq!(counts.delivered + counts.runtime, records);
    }
}
