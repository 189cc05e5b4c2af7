//! Compares what the walks have recorded with the events, in both directions.

use std::collections::{BTreeMap, HashMap};

use super::log::{Attempt, Birth, Identity, Log};
use crate::harness::containerd::ObservedEvent;

const SIGKILL: u32 = 9;

/// Where the processes of one walk belong.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    pub(super) container: String,
    /// `None` for the walk of init.
    pub(super) exec_id: Option<String>,
}

impl Walk {
    /// The id of the exec; empty for the walk of init.
    pub(super) fn exec_id(&self) -> &str {
        self.exec_id.as_deref().unwrap_or_default()
    }

    pub(super) fn origin_of(&self, birth: &Birth) -> &'static str {
        match (birth.is_root, &self.exec_id) {
            (false, _) => "descendant",
            (true, None) => "init",
            (true, Some(_)) => "exec",
        }
    }
}

/// The result of a comparison.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// How many processes were compared.
    pub(super) processes: usize,
    /// How many processes the kernel killed, together with their pid namespace or otherwise, before
    /// they recorded everything, so that a part of what is reported could be compared with nothing.
    pub(super) vague: usize,
    /// How many processes were not reported, where that is permitted.
    pub(super) missing: usize,
    pub(super) differences: Vec<String>,
}

/// The events of one process.
pub(super) type Events<'a> = Vec<&'a ObservedEvent>;

struct Comparing<'a> {
    log: &'a Log,
    walks: &'a BTreeMap<u32, Walk>,
    /// What a parent, a subreaper or an init got from waitid(2).
    waited: HashMap<Identity, u32>,
    events: BTreeMap<Identity, Events<'a>>,
    result: Comparison,
}

/// Compares the log of a round with the events of its containers.
pub(super) fn compare(
    log: &Log,
    walks: &BTreeMap<u32, Walk>,
    events: &[ObservedEvent],
) -> Comparison {
    let mut comparing = Comparing {
        log,
        walks,
        waited: log.waits.iter().copied().collect(),
        events: events_by_process(events),
        result: Comparison::default(),
    };
    let (known, unknown): (Vec<&Birth>, Vec<&Birth>) =
        log.births.iter().skip(1).partition(|birth| birth.identity.is_some());
    let repeated = log.repeated();
    for birth in known {
        if !birth.identity.is_some_and(|identity| repeated.contains_key(&identity)) {
            comparing.process(birth);
        }
    }
    for (identity, births) in repeated {
        comparing.repeated(identity, &births);
    }
    // These were killed before they ran: they are known by their forker only.
    for birth in unknown.into_iter().filter(|birth| birth.attempt != Attempt::Failed) {
        comparing.unborn(birth);
    }
    let left = std::mem::take(&mut comparing.events);
    for (identity, events) in left {
        comparing.differ(format!("{identity:?} is in no walk: {}", describe(&events)));
    }
    comparing.result
}

/// The events of each process, in their order.
pub(super) fn events_by_process(events: &[ObservedEvent]) -> BTreeMap<Identity, Events<'_>> {
    let mut by_process: BTreeMap<Identity, Events<'_>> = BTreeMap::new();
    for event in events {
        if let Some(identity) = identity_of(event) {
            by_process.entry(identity).or_default().push(event);
        }
    }
    by_process
}

/// The pid and the start in the `entity_id` of an event of a process.
fn identity_of(event: &ObservedEvent) -> Option<Identity> {
    let id = event.text("/process/entity_id");
    let part = |range| u64::from_str_radix(id.get(range)?, 16).ok();
    Some((u32::try_from(part(8..16)?).ok()?, part(16..id.len())?))
}

pub(super) fn describe(events: &[&ObservedEvent]) -> String {
    let event = |event: &&ObservedEvent| {
        let (process, args) = (event.at("/process"), event.args().join(" "));
        format!(
            "\n    {} {} ({}) in {} as {} of exec {:?}, parent {}, status {}: {args:.120}",
            event.number("/monotonic_ns").unwrap_or_default(),
            event.kind(),
            event.text("/grade"),
            event.container(),
            event.text("/origin"),
            event.text("/containerd/exec_id"),
            process["parent_pid"],
            event.at("/status"),
        )
    };
    events.iter().map(event).collect()
}

impl Comparing<'_> {
    fn differ(&mut self, what: String) {
        self.result.differences.push(what);
    }

    fn process(&mut self, birth: &Birth) {
        let Some(identity) = birth.identity else { return };
        self.result.processes += 1;
        let events = self.events.remove(&identity).unwrap_or_default();
        let mut wrong = Vec::new();
        self.check_place(birth, &events, &mut wrong);
        self.check_birth(birth, &events, &mut wrong);
        self.check_images(birth, &events, &mut wrong);
        self.check_end(birth, identity, &events, &mut wrong);
        if !wrong.is_empty() {
            let all = describe(&events);
            let (story, others) = (self.story(birth), self.others_with_pid(identity));
            self.differ(format!("{story}:\n  {}{all}{others}", wrong.join("\n  ")));
        }
    }

    /// Processes with one pid that began within one clock tick. Neither events nor walks
    /// distinguish them, so only their numbers are compared.
    fn repeated(&mut self, identity: Identity, births: &[&Birth]) {
        self.result.processes += births.len();
        self.result.vague += births.len();
        let events = self.events.remove(&identity).unwrap_or_default();
        let forked = births.iter().filter(|birth| !birth.is_root).count();
        let forks = of_kind(&events, "process.fork").len();
        let exits = of_kind(&events, "process.exit").len();
        if (forks, exits) != (forked, births.len()) {
            let stories: Vec<String> = births.iter().map(|birth| self.story(birth)).collect();
            let all = describe(&events);
            self.differ(format!("{forks} forks and {exits} exits of {}{all}", stories.join(", ")));
        }
    }

    /// The other processes of the walks that had the same pid.
    fn others_with_pid(&self, identity: Identity) -> String {
        let of_pid = |birth: &&Birth| {
            birth.identity.is_some_and(|other| other.0 == identity.0 && other != identity)
        };
        let others = self.log.births.iter().filter(of_pid);
        others.map(|birth| format!("\n  the pid was also that of {}", self.story(birth))).collect()
    }

    /// A process that its forker has made, and that was killed before it ran. Its events are those
    /// of any process of the same parent that is in no walk.
    fn unborn(&mut self, birth: &Birth) {
        let parent = self.log.births[birth.forker].identity.map(|(pid, _)| u64::from(pid));
        let is_it = |events: &&ObservedEvent| {
            parent.is_some() && events.number("/process/parent_pid") == parent
        };
        let found = self.events.iter().find(|(_, events)| events.iter().any(is_it));
        let Some(identity) = found.map(|(identity, _)| *identity) else {
            if birth.attempt == Attempt::Succeeded {
                let story = self.story(birth);
                self.differ(format!("{story}: not reported; it was killed before it ran"));
            }
            return;
        };
        self.result.processes += 1;
        self.result.vague += 1;
        let events = self.events.remove(&identity).unwrap_or_default();
        let mut wrong = Vec::new();
        self.check_place(birth, &events, &mut wrong);
        if !self.is_doomed(birth) {
            wrong.push("it has recorded nothing".to_owned());
        }
        let kinds: Vec<&str> = events.iter().map(|event| event.kind()).collect();
        if kinds != ["process.fork", "process.exit", "process.done"] {
            wrong.push(format!("it did not run, and has {kinds:?}"));
        }
        if !wrong.is_empty() {
            let (story, all) = (self.story(birth), describe(&events));
            self.differ(format!("{story}:\n  {}{all}", wrong.join("\n  ")));
        }
    }

    /// The container, the origin and the exec id of each event.
    fn check_place(&self, birth: &Birth, events: &[&ObservedEvent], wrong: &mut Vec<String>) {
        let Some(walk) = self.walks.get(&birth.walk) else {
            return wrong.push(format!("walk {} does not exist", birth.walk));
        };
        let expected = (walk.container.as_str(), walk.origin_of(birth), walk.exec_id());
        for event in events {
            let found =
                (event.container(), event.text("/origin"), event.text("/containerd/exec_id"));
            if found != expected {
                return wrong.push(format!("{}: {found:?} instead of {expected:?}", event.kind()));
            }
        }
    }

    fn check_birth(&self, birth: &Birth, events: &[&ObservedEvent], wrong: &mut Vec<String>) {
        let forks = of_kind(events, "process.fork");
        let expected = usize::from(!birth.is_root);
        if forks.len() != expected {
            wrong.push(format!("{} forks instead of {expected}", forks.len()));
        }
        let forker = self.log.births[birth.forker].identity.map(|(pid, _)| u64::from(pid));
        for event in events {
            let parent = event.number("/process/parent_pid");
            if !birth.is_root && parent != forker {
                wrong.push(format!("{}: parent {parent:?} instead of {forker:?}", event.kind()));
            }
            let vpid = event.number("/process/vpid");
            if vpid != Some(u64::from(birth.vpid)) {
                wrong.push(format!("{}: vpid {vpid:?} instead of {}", event.kind(), birth.vpid));
            }
        }
    }

    fn check_images(&mut self, birth: &Birth, events: &[&ObservedEvent], wrong: &mut Vec<String>) {
        let is_run =
            |event: &&&ObservedEvent| ["process.start", "process.exec"].contains(&event.kind());
        let mut runs = events.iter().filter(is_run);
        let attempts = birth.images.iter().filter(|image| image.attempt != Attempt::Failed);
        for (number, image) in attempts.enumerate() {
            let Some(run) = runs.next() else {
                match image.attempt {
                    Attempt::Intended if self.is_doomed(birth) => self.result.vague += 1,
                    Attempt::Intended => wrong.push(format!("{} did not return", image.how)),
                    _ => wrong.push(format!("{} is not reported: {:?}", image.how, image.args)),
                }
                continue;
            };
            let kind = if number == 0 { "process.start" } else { "process.exec" };
            if run.kind() != kind || run.args() != image.args {
                let (found, args) = (run.kind(), run.args());
                wrong.push(format!("{found} {args:?} instead of {kind} {:?}", image.args));
            }
        }
        let more = runs.count();
        if more > 0 {
            wrong.push(format!("{more} more images than it ran"));
        }
    }

    fn check_end(
        &mut self,
        birth: &Birth,
        identity: Identity,
        events: &[&ObservedEvent],
        wrong: &mut Vec<String>,
    ) {
        for kind in ["process.exit", "process.done"] {
            let count = of_kind(events, kind).len();
            if count != 1 {
                wrong.push(format!("{count} events {kind}"));
            }
        }
        let mut expected: Vec<u32> = birth.intents.iter().copied().chain(birth.killed).collect();
        if self.is_doomed(birth) {
            expected.push(SIGKILL);
        }
        if let Some(waited) = self.waited.get(&identity) {
            // What waitid(2) returned is what has to be reported. The log may not show what killed
            // a process, for example at the end of a namespace, and nothing else comes from
            // outside.
            if !expected.contains(waited) && *waited == SIGKILL {
                self.result.vague += 1;
            } else if !expected.contains(waited) {
                wrong.push(format!("the walk is wrong: it got {waited:#x}, not {expected:x?}"));
            }
            expected = vec![*waited];
        } else if expected.len() > 1 {
            self.result.vague += 1;
        }
        for exit in of_kind(events, "process.exit") {
            if !expected.iter().any(|status| states_end(exit, *status)) {
                let found = (exit.number("/status"), exit.number("/process/exit/code"));
                wrong.push(format!("ended with {found:?} instead of {expected:x?}"));
            }
        }
    }

    /// Whether the kernel may have killed it at any step, because the first process of one of its
    /// pid namespaces ended before it.
    fn is_doomed(&self, birth: &Birth) -> bool {
        let mut namespace = birth.namespace;
        while namespace != 0 {
            let first = &self.log.births[namespace];
            if first.abandons && namespace != birth.slot {
                return true;
            }
            namespace = self.log.births[first.forker].namespace;
        }
        false
    }

    /// The steps that have led to a process, the first one first.
    fn story(&self, birth: &Birth) -> String {
        let mut steps = Vec::new();
        let mut next = birth;
        loop {
            let images = next.images.iter().map(|image| format!("+{}", image.how));
            steps.push(format!("{}{}", next.how, images.collect::<String>()));
            if next.is_root || steps.len() > 40 {
                break;
            }
            next = &self.log.births[next.forker];
        }
        steps.reverse();
        let walk = self.walks.get(&birth.walk);
        let Birth { slot, identity, vpid, namespace, .. } = birth;
        let steps = steps.join(" > ");
        format!("slot {slot} {identity:?}, {vpid} of {namespace}, of {walk:?}, {steps}")
    }
}

/// Whether an exit states the wait status.
pub(super) fn states_end(exit: &ObservedEvent, status: u32) -> bool {
    let (code, signal) = (u64::from(status >> 8), u64::from(status & 0x7f));
    (exit.number("/status"), exit.number("/process/exit/code"))
        == if signal == 0 { (Some(code), Some(code)) } else { (Some(128 + signal), None) }
}

pub(super) fn of_kind<'a>(events: &[&'a ObservedEvent], kind: &str) -> Events<'a> {
    events.iter().copied().filter(|event| event.kind() == kind).collect()
}
