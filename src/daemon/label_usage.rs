//! The resource usage of registered processes, summed by tag and by group, for the metrics.
//!
//! The sums that only grow are kept between scrapes: each scrape adds what each process has used
//! since the one before, so the end of a process takes nothing back. What a process used after its
//! last scrape is missing. The core is pure: what is read of a process comes from the caller.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{
    clock::realtime_ns,
    linux::process::{Consumption, consumption},
    model::ProcessKey,
    registry::entry::Entry,
};

/// The most tags, and the most groups, that have a series of their own.
pub const SERIES_MAX: usize = 100;

/// The most processes that are sampled at a scrape, those with the lowest ids.
pub const SAMPLED_MAX: usize = 20_000;

/// The label of the tags or groups without a series of their own, and of a tag of this name.
pub const OTHER: &str = "other";

/// A living registered process that has a tag or a group.
#[derive(Debug, Clone)]
pub(super) struct LabelledProcess {
    id: u64,
    key: ProcessKey,
    created_ns: u64,
    tags: BTreeSet<String>,
    groups: BTreeSet<String>,
}

impl LabelledProcess {
    /// The process of an entry; `None` if it has ended, or has neither tag nor group.
    pub(super) fn of(entry: &Entry) -> Option<Self> {
        let is_labelled = !entry.tags.is_empty() || !entry.groups.is_empty();
        (entry.end.is_none() && is_labelled).then(|| Self {
            id: entry.id,
            key: entry.process.key(),
            created_ns: entry.process.created_ns,
            tags: entry.tags.clone(),
            groups: entry.groups.clone(),
        })
    }
}

/// What the processes of one tag or group use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LabelUsage {
    /// The living processes that were sampled.
    processes: u64,
    /// Their resident memory in bytes.
    rss_bytes: u64,
    /// What the processes have used since the series began: CPU time in nanoseconds, and bytes read
    /// from and written to storage.
    cpu_ns: u64,
    read_bytes: u64,
    written_bytes: u64,
}

/// The usage of each tag and of each group, by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageByLabel {
    /// By tag.
    pub tags: BTreeMap<String, LabelUsage>,
    /// By group.
    pub groups: BTreeMap<String, LabelUsage>,
}

/// The sums that are kept between scrapes.
#[derive(Debug, Default)]
pub(super) struct LabelUsages {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sums: UsageByLabel,
    /// What each sampled process had used at the last scrape, by entry.
    last: HashMap<u64, Consumption>,
    /// When the last scrape was; 0 before the first.
    at_ns: u64,
}

impl LabelUsages {
    /// Samples the processes and returns the sums. Blocks for microseconds a process, because it
    /// reads `/proc`.
    pub(super) fn sample(&self, processes: &[LabelledProcess]) -> UsageByLabel {
        // Held during the reads, so that two scrapes at a time count nothing twice.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let processes = &processes[..processes.len().min(SAMPLED_MAX)];
        state.update(processes, realtime_ns(), consumption);
        state.sums.clone()
    }
}

impl State {
    fn update(
        &mut self,
        processes: &[LabelledProcess],
        now_ns: u64,
        read: impl Fn(ProcessKey) -> Option<Consumption>,
    ) {
        let names = |of: fn(&LabelledProcess) -> &BTreeSet<String>| processes.iter().flat_map(of);
        begin(&mut self.sums.tags, names(|process| &process.tags));
        begin(&mut self.sums.groups, names(|process| &process.groups));
        let mut last = HashMap::with_capacity(processes.len());
        for process in processes {
            let Some(now) = read(process.key) else { continue };
            // All use of a process that started since the last scrape counts. Of an older one that
            // was registered since, the use before is not known to have happened in this time.
            let is_new = self.at_ns > 0 && process.created_ns >= self.at_ns;
            let before = self.last.get(&process.id).copied();
            let before = before.unwrap_or(if is_new { Consumption::default() } else { now });
            add(&mut self.sums.tags, &process.tags, before, now);
            add(&mut self.sums.groups, &process.groups, before, now);
            last.insert(process.id, now);
        }
        (self.last, self.at_ns) = (last, now_ns);
    }
}

/// Prepares the series for a scrape: removes those without a process, gives new names the places
/// that are free, those with the most processes first, and resets what is not a sum over time.
fn begin<'a>(series: &mut BTreeMap<String, LabelUsage>, names: impl Iterator<Item = &'a String>) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    series.retain(|name, _| name == OTHER || counts.contains_key(name.as_str()));
    let has_series: HashSet<String> = series.keys().cloned().collect();
    let mut new: Vec<_> = counts
        .into_iter()
        .filter(|(name, _)| *name != OTHER && !has_series.contains(*name))
        .collect();
    new.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let own = has_series.iter().filter(|name| *name != OTHER).count();
    for (name, _) in new.into_iter().take(SERIES_MAX.saturating_sub(own)) {
        series.insert(name.to_owned(), LabelUsage::default());
    }
    for usage in series.values_mut() {
        (usage.processes, usage.rss_bytes) = (0, 0);
    }
}

/// Adds a process to the series of its names. It counts once in the series `other`.
fn add(
    series: &mut BTreeMap<String, LabelUsage>,
    names: &BTreeSet<String>,
    before: Consumption,
    now: Consumption,
) {
    let own = |name: &String| if series.contains_key(name) { name } else { OTHER }.to_owned();
    for name in names.iter().map(own).collect::<BTreeSet<String>>() {
        let usage = series.entry(name).or_default();
        usage.processes += 1;
        usage.rss_bytes += now.rss_bytes;
        usage.cpu_ns += now.cpu_ns.saturating_sub(before.cpu_ns);
        let ((read, written), (read_before, written_before)) =
            (now.io.unwrap_or_default(), before.io.unwrap_or_default());
        usage.read_bytes += read.saturating_sub(read_before);
        usage.written_bytes += written.saturating_sub(written_before);
    }
}

impl UsageByLabel {
    /// Adds the metrics to a registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        register(registry, "tag", &self.tags);
        register(registry, "group", &self.groups);
    }
}

/// The label of a series: its name and its value.
type Label = [(&'static str, String); 1];

fn register(registry: &mut Registry, label: &'static str, series: &BTreeMap<String, LabelUsage>) {
    let (processes, memory) =
        (Family::<Label, Gauge>::default(), Family::<Label, Gauge>::default());
    let cpu = Family::<Label, Counter<f64, std::sync::atomic::AtomicU64>>::default();
    let (read, written) =
        (Family::<Label, Counter>::default(), Family::<Label, Counter>::default());
    let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    for (name, usage) in series {
        let label = [(label, name.clone())];
        processes.get_or_create(&label).set(gauge(usage.processes));
        memory.get_or_create(&label).set(gauge(usage.rss_bytes));
        let seconds = std::time::Duration::from_nanos(usage.cpu_ns).as_secs_f64();
        cpu.get_or_create(&label).inc_by(seconds);
        read.get_or_create(&label).inc_by(usage.read_bytes);
        written.get_or_create(&label).inc_by(usage.written_bytes);
    }
    let name = |what: &str| format!("{label}_{what}");
    let help = |what: &str| format!("{what} registered processes with this {label}");
    registry.register(name("processes"), help("Living"), processes);
    let bytes = || Unit::Bytes;
    registry.register_with_unit(
        name("resident_memory"),
        help("Resident memory of the living"),
        bytes(),
        memory,
    );
    registry.register_with_unit(name("cpu"), help("CPU time of the"), Unit::Seconds, cpu);
    registry.register_with_unit(
        name("read"),
        help("Bytes read from storage by the"),
        bytes(),
        read,
    );
    let text = help("Bytes written to storage by the");
    registry.register_with_unit(name("written"), text, bytes(), written);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(id: u64, created_ns: u64, tags: &[&str]) -> LabelledProcess {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let key = ProcessKey::new(i32::try_from(id).unwrap(), 1);
        LabelledProcess { id, key, created_ns, tags, groups: BTreeSet::new() }
    }

    fn used(cpu_ns: u64) -> impl Fn(ProcessKey) -> Option<Consumption> {
        move |_| Some(Consumption { cpu_ns, rss_bytes: 10, io: Some((cpu_ns * 2, cpu_ns * 3)) })
    }

    /// Check that a sum grows by what was used between two scrapes, begins with all that a new
    /// process has used and with nothing of an older one, and does not fall when a process ends.
    #[test]
    fn a_sum_is_what_was_used_between_scrapes() {
        let mut state = State::default();
        let old = process(1, 5, &["a"]);
        state.update(std::slice::from_ref(&old), 100, used(1000));
        assert_eq!(
            state.sums.tags["a"],
            LabelUsage { processes: 1, rss_bytes: 10, ..LabelUsage::default() }
        );
        let (new, late) = (process(2, 150, &["a"]), process(3, 50, &["a"]));
        state.update(&[old.clone(), new, late.clone()], 200, used(1007));
        // 7 of the old process, all of the new one, nothing of the one that was registered late.
        let expected = LabelUsage {
            processes: 3,
            rss_bytes: 30,
            cpu_ns: 1014,
            read_bytes: 2028,
            written_bytes: 3042,
        };
        assert_eq!(state.sums.tags["a"], expected);
        state.update(&[late], 300, used(1008));
        assert_eq!(state.sums.tags["a"].cpu_ns, 1015);
        assert_eq!((state.sums.tags["a"].processes, state.last.len()), (1, 1));
    }

    /// Check that only so many names have a series, that a series keeps its place, that a process
    /// with two other names counts once, and that a place is free again without processes.
    #[test]
    fn the_number_of_series_is_bounded() {
        let mut state = State::default();
        let first: Vec<_> = (0..150)
            .map(|id| process(id, 0, &[&format!("t{id:03}"), &format!("u{id:03}")]))
            .collect();
        state.update(&first, 100, used(0));
        assert_eq!(state.sums.tags.len(), SERIES_MAX + 1);
        // t000 to t099 have a series, and all processes have a name without one.
        assert_eq!(state.sums.tags[OTHER].processes, 150);
        let crowd: Vec<_> = (200..250).map(|id| process(id, 0, &["z"])).collect();
        state.update(&[&first[..], &crowd].concat(), 200, used(0));
        assert!(!state.sums.tags.contains_key("z"), "a series was replaced");
        state.update(&[&first[1..], &crowd].concat(), 300, used(0));
        assert_eq!(state.sums.tags["z"].processes, 50);
        assert_eq!(state.sums.tags.len(), SERIES_MAX + 1);
        // A tag of that name is one of the others.
        state.update(&[process(1, 0, &[OTHER])], 400, used(0));
        assert_eq!(state.sums.tags.keys().collect::<Vec<_>>(), [OTHER]);
    }
}
