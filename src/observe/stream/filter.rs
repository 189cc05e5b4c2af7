//! The filters that decide which events a subscriber receives.

use std::time::Duration;

use crate::{
    model::{EVENT_TYPES, Origin},
    observe::encode::Encoded,
};

/// How many filters a subscriber may have. A request with more is refused.
pub const FILTERS_MAX: usize = 32;

/// A set bit for each event type: bit N is the type at index N of [`EVENT_TYPES`].
const EVERY_KIND: u32 = u32::MAX >> (u32::BITS as usize - EVENT_TYPES.len());

/// One filter of a subscriber. An event matches if it matches every field that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterSpec {
    /// Event types such as `process.exec`; `process.*` stands for every type of that group. Empty:
    /// every type.
    pub types: Vec<String>,
    /// The id of a container. Its events match, and those `observer.*` events that concern the
    /// whole shim. Empty: every container.
    pub container_id: String,
    /// The id of an exec, for the events of its processes. `Some("")`: processes that belong to no
    /// exec. `None`: any.
    pub exec_id: Option<String>,
    /// The origin of the process: `init`, `exec`, `descendant`, `injected`, `hook` or `unknown`.
    /// Empty: any.
    pub origin: String,
    /// The path of the executable, or its file name. Empty: any.
    pub executable: String,
    /// Whether only exits with a status other than 0 match. An unknown status does not match.
    pub failures: bool,
    /// After this number of matches the filter matches nothing more. 0: no limit.
    pub limit: u32,
    /// For how long the filter matches nothing after a match, measured by the `monotonic_ns` of
    /// the events. 0: no cooldown.
    pub cooldown: Duration,
    /// A text that is delivered with each event that this filter matched. Empty: none.
    pub label: String,
}

/// Why the filters of a subscriber are invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// There is no event type or group of this name.
    #[error("unknown event type {0:?}")]
    Type(String),
    /// There is no origin of this name.
    #[error("unknown origin {0:?}")]
    Origin(String),
    /// The request has this number of filters, more than [`FILTERS_MAX`].
    #[error("{0} filters are more than the limit of {FILTERS_MAX}")]
    TooMany(usize),
}

/// Which of a subscriber's filters an event matched: bit N is filter N. No bit is set if the
/// subscriber has no filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MatchedFilters(u32);

impl MatchedFilters {
    fn filters(self) -> impl Iterator<Item = usize> {
        (0..FILTERS_MAX).filter(move |index| self.0 & (1 << index) != 0)
    }
}

/// A subscriber's filters, with their limits and cooldowns. An event passes if one of them matches.
///
/// [`admit`](Self::admit) sees each event once, in order of sequence numbers, whether the event is
/// read or missed. So the events that match do not depend on how fast the subscriber reads.
#[derive(Debug)]
pub(super) struct Filters {
    filters: Vec<Filter>,
    /// The types that at least one filter can match, as bits.
    kinds: u32,
}

impl Filters {
    pub(super) fn compile(wanted: &[FilterSpec]) -> Result<Self, InvalidFilter> {
        if wanted.len() > FILTERS_MAX {
            return Err(InvalidFilter::TooMany(wanted.len()));
        }
        let filters = wanted.iter().map(Filter::compile).collect::<Result<Vec<_>, _>>()?;
        let kinds = if filters.is_empty() { EVERY_KIND } else { kinds(&filters) };
        Ok(Self { filters, kinds })
    }

    /// The event types that can match, as bits.
    pub(super) fn kinds(&self) -> u32 {
        self.kinds
    }

    /// The filters that the event matches; `None` if it does not pass. Does not count for limits
    /// and cooldowns.
    pub(super) fn matching(&self, event: &Encoded<'_>) -> Option<MatchedFilters> {
        let kind = 1 << event.kind;
        // The cheap check is made first, because in a storm most events fail it.
        if self.kinds & kind == 0 {
            return None;
        }
        if self.filters.is_empty() {
            return Some(MatchedFilters(0));
        }
        let matches =
            |(index, filter): (usize, &Filter)| u32::from(filter.matches(kind, event)) << index;
        // Every filter is checked, even after a match, because each has its own label and limit.
        let bits = self.filters.iter().enumerate().map(matches).fold(0, |all, bit| all | bit);
        (bits != 0).then_some(MatchedFilters(bits))
    }

    /// As [`matching`](Self::matching), and counts the match for limits and cooldowns.
    pub(super) fn admit(&mut self, event: &Encoded<'_>) -> Option<MatchedFilters> {
        let matched = self.matching(event)?;
        for index in matched.filters() {
            let Some(filter) = self.filters.get_mut(index) else { continue };
            if filter.count_match(event) {
                self.kinds = kinds(&self.filters);
            }
        }
        Some(matched)
    }

    /// The labels of the filters that matched. Empty labels are left out.
    pub(super) fn labels(&self, matched: MatchedFilters) -> impl Iterator<Item = &str> {
        let labels = matched
            .filters()
            .filter_map(|index| self.filters.get(index))
            .map(|filter| &*filter.label);
        labels.filter(|label| !label.is_empty())
    }
}

fn kinds(filters: &[Filter]) -> u32 {
    filters.iter().fold(0, |all, filter| all | filter.kinds)
}

#[derive(Debug)]
struct Filter {
    /// The event types that the filter can match, as bits; 0 after the limit is reached.
    kinds: u32,
    container_id: Option<Box<str>>,
    exec_id: Option<Box<str>>,
    origin: Option<Origin>,
    executable: Option<Box<[u8]>>,
    failures: bool,
    /// How many more events the filter may match; `None` if it has no limit.
    remaining: Option<u32>,
    cooldown_ns: u64,
    /// The end of the cooldown: `CLOCK_MONOTONIC`, in nanoseconds. No event before this time
    /// matches.
    cooldown_until_ns: u64,
    label: Box<str>,
}

impl Filter {
    /// Checks a filter and prepares it for matching.
    fn compile(wanted: &FilterSpec) -> Result<Self, InvalidFilter> {
        let FilterSpec {
            container_id,
            exec_id,
            origin,
            executable,
            failures,
            limit,
            cooldown,
            label,
            ..
        } = wanted;
        let mut kinds = if wanted.types.is_empty() { EVERY_KIND } else { 0 };
        for name in &wanted.types {
            kinds |= kinds_named(name).ok_or_else(|| InvalidFilter::Type(name.clone()))?;
        }
        // A field that only some types have limits the filter to these types. Then `kinds` alone
        // rejects all other events, and the subscriber is not woken for them.
        if *failures {
            kinds &= kinds_named("process.exit").unwrap_or_default();
        }
        if exec_id.is_some() || !origin.is_empty() || !executable.is_empty() {
            let of_a_process = ["process.*", "exec.left"].map(kinds_named);
            kinds &= of_a_process.into_iter().flatten().fold(0, |all, kinds| all | kinds);
        }
        let set = |text: &String| (!text.is_empty()).then(|| text.as_str().into());
        Ok(Self {
            kinds,
            container_id: set(container_id),
            exec_id: exec_id.as_deref().map(Into::into),
            origin: if origin.is_empty() { None } else { Some(origin_of(origin)?) },
            executable: (!executable.is_empty()).then(|| executable.as_bytes().into()),
            failures: *failures,
            remaining: (*limit > 0).then_some(*limit),
            cooldown_ns: u64::try_from(cooldown.as_nanos()).unwrap_or(u64::MAX),
            cooldown_until_ns: 0,
            label: label.as_str().into(),
        })
    }

    fn matches(&self, kind: u32, event: &Encoded<'_>) -> bool {
        self.kinds & kind != 0
            && event.monotonic_ns >= self.cooldown_until_ns
            && self.container_id.as_deref().is_none_or(|id| concerns_container(event, id))
            && (!self.failures || event.status().is_some_and(|status| status != 0))
            && self.matches_process(event)
    }

    fn matches_process(&self, event: &Encoded<'_>) -> bool {
        if self.origin.is_none() && self.exec_id.is_none() && self.executable.is_none() {
            return true;
        }
        // `compile` limits such a filter to `process.*`, so the event always has a process.
        let Some(process) = event.process() else { return false };
        self.origin.is_none_or(|origin| process.origin == origin.as_str().as_bytes())
            && self.exec_id.as_deref().is_none_or(|id| process.exec_id == id.as_bytes())
            && self.executable.as_deref().is_none_or(|name| {
                process.executable.is_some_and(|path| path == name || file_name(path) == name)
            })
    }

    /// Starts the cooldown and counts the limit down. Returns whether this was the last match.
    fn count_match(&mut self, event: &Encoded<'_>) -> bool {
        if self.cooldown_ns > 0 {
            self.cooldown_until_ns = event.monotonic_ns.saturating_add(self.cooldown_ns);
        }
        let Some(remaining) = &mut self.remaining else { return false };
        *remaining = remaining.saturating_sub(1);
        let last = *remaining == 0;
        if last {
            // An exhausted filter must no longer wake its subscriber.
            self.kinds = 0;
        }
        last
    }
}

/// Whether the event belongs to this container. An `observer.*` event without a container, such as
/// a gap of the whole shim, concerns each of its containers.
fn concerns_container(event: &Encoded<'_>, id: &str) -> bool {
    match event.container_id() {
        Some(container) => container == id.as_bytes(),
        None => kinds_named("observer.*").is_some_and(|kinds| kinds & (1 << event.kind) != 0),
    }
}

fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// The bits of an event type, or of all types of `group.*`; `None` if there are none.
fn kinds_named(name: &str) -> Option<u32> {
    let is_named = |known: &str| match name.strip_suffix('*') {
        // Only whole groups are accepted: `proc*` is not a prefix search.
        Some(group) => group.ends_with('.') && known.starts_with(group),
        None => known == name,
    };
    let bit = |(index, known): (usize, &&str)| if is_named(known) { 1 << index } else { 0 };
    let kinds = EVENT_TYPES.iter().enumerate().map(bit).fold(0, |all, bit: u32| all | bit);
    (kinds != 0).then_some(kinds)
}

fn origin_of(name: &str) -> Result<Origin, InvalidFilter> {
    Origin::ALL
        .into_iter()
        .find(|origin| origin.as_str() == name)
        .ok_or_else(|| InvalidFilter::Origin(name.to_owned()))
}

#[cfg(test)]
mod tests;
