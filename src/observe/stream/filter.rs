//! Which events a subscriber gets.

use std::time::Duration;

use crate::{
    model::{EVENT_TYPES, Origin},
    observe::encode::Encoded,
};

/// How many filters a subscriber may have; more are refused.
pub const FILTERS_MAX: usize = 32;

/// Every type, one bit each.
const EVERY_KIND: u16 = u16::MAX >> (u16::BITS as usize - EVENT_TYPES.len());

/// What one filter asks for: every set field must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Types such as `process.exec`; `process.*` is every type of that kind. Empty: every type.
    pub types: Vec<String>,
    /// Of this container, and `observer.*` of the whole shim. Empty: of every one.
    pub container_id: String,
    /// Of this exec; `Some("")` for processes that belong to none.
    pub exec_id: Option<String>,
    /// `init`, `exec`, `descendant` or `injected`. Empty: any.
    pub origin: String,
    /// The executable's whole path, or its last part. Empty: any.
    pub executable: String,
    /// Only exits with a status other than 0.
    pub failures: bool,
    /// After so many matches no more; 0: no limit.
    pub limit: u32,
    /// After a match nothing for so long, by the events' own monotonic time.
    pub cooldown: Duration,
    /// Comes back with what matched.
    pub label: String,
}

/// A filter that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// No such type of event.
    #[error("unknown event type {0:?}")]
    Type(String),
    /// No such origin.
    #[error("unknown origin {0:?}")]
    Origin(String),
    /// More than [`FILTERS_MAX`].
    #[error("{0} filters: at most {FILTERS_MAX}")]
    TooMany(usize),
}

/// Which of a subscriber's filters an event matched, one bit each; none where it has no filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Matched(u32);

impl Matched {
    fn filters(self) -> impl Iterator<Item = usize> {
        (0..FILTERS_MAX).filter(move |index| self.0 & (1 << index) != 0)
    }
}

/// A subscriber's filters, with what they remember. An event passes where one of them matches.
///
/// Each event is judged once, in order of seq, whether it is read or missed: what matches does not
/// depend on how fast the subscriber is.
#[derive(Debug)]
pub(super) struct Filters {
    filters: Vec<Filter>,
    kinds: u16,
}

impl Filters {
    pub(super) fn compile(wanted: &[Wanted]) -> Result<Self, Invalid> {
        if wanted.len() > FILTERS_MAX {
            return Err(Invalid::TooMany(wanted.len()));
        }
        let filters = wanted.iter().map(Filter::compile).collect::<Result<Vec<_>, _>>()?;
        let kinds = if filters.is_empty() { EVERY_KIND } else { kinds(&filters) };
        Ok(Self { filters, kinds })
    }

    /// The types that can match, one bit each.
    pub(super) fn kinds(&self) -> u16 {
        self.kinds
    }

    /// Whether it matches. Changes nothing.
    pub(super) fn judge(&self, event: &Encoded<'_>) -> Option<Matched> {
        let kind = 1 << event.kind;
        if self.kinds & kind == 0 {
            return None;
        }
        if self.filters.is_empty() {
            return Some(Matched(0));
        }
        let matches =
            |(index, filter): (usize, &Filter)| u32::from(filter.matches(kind, event)) << index;
        let bits = self.filters.iter().enumerate().map(matches).fold(0, |all, bit| all | bit);
        (bits != 0).then_some(Matched(bits))
    }

    /// Judges it and remembers the match, for limits and cooldowns.
    pub(super) fn admit(&mut self, event: &Encoded<'_>) -> Option<Matched> {
        let matched = self.judge(event)?;
        for index in matched.filters() {
            let Some(filter) = self.filters.get_mut(index) else { continue };
            if filter.remember(event) {
                self.kinds = kinds(&self.filters);
            }
        }
        Some(matched)
    }

    /// Those of the filters that matched, without the empty ones.
    pub(super) fn labels(&self, matched: Matched) -> impl Iterator<Item = &str> {
        let labels = matched
            .filters()
            .filter_map(|index| self.filters.get(index))
            .map(|filter| &*filter.label);
        labels.filter(|label| !label.is_empty())
    }
}

fn kinds(filters: &[Filter]) -> u16 {
    filters.iter().fold(0, |all, filter| all | filter.kinds)
}

#[derive(Debug)]
struct Filter {
    /// 0 once the limit is reached.
    kinds: u16,
    container_id: Option<Box<str>>,
    exec_id: Option<Box<str>>,
    origin: Option<Origin>,
    executable: Option<Box<[u8]>>,
    failures: bool,
    /// How many more it may match.
    remaining: Option<u32>,
    cooldown_ns: u64,
    quiet_until_ns: u64,
    label: Box<str>,
}

impl Filter {
    fn compile(wanted: &Wanted) -> Result<Self, Invalid> {
        let Wanted {
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
            kinds |= kinds_of(name).ok_or_else(|| Invalid::Type(name.clone()))?;
        }
        if *failures {
            kinds &= kinds_of("process.exit").unwrap_or_default();
        }
        if exec_id.is_some() || !origin.is_empty() || !executable.is_empty() {
            kinds &= kinds_of("process.*").unwrap_or_default();
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
            quiet_until_ns: 0,
            label: label.as_str().into(),
        })
    }

    fn matches(&self, kind: u16, event: &Encoded<'_>) -> bool {
        self.kinds & kind != 0
            && event.monotonic_ns >= self.quiet_until_ns
            && self.container_id.as_deref().is_none_or(|id| is_of(event, id))
            && (!self.failures || event.status().is_some_and(|status| status != 0))
            && self.matches_process(event)
    }

    fn matches_process(&self, event: &Encoded<'_>) -> bool {
        if self.origin.is_none() && self.exec_id.is_none() && self.executable.is_none() {
            return true;
        }
        // Where one of these is set, `kinds` lets only processes through.
        let Some(process) = event.process() else { return false };
        self.origin.is_none_or(|origin| process.origin == origin.as_str().as_bytes())
            && self.exec_id.as_deref().is_none_or(|id| process.exec_id == id.as_bytes())
            && self.executable.as_deref().is_none_or(|name| {
                process.executable.is_some_and(|path| path == name || last_part(path) == name)
            })
    }

    /// Whether that was its last match.
    fn remember(&mut self, event: &Encoded<'_>) -> bool {
        if self.cooldown_ns > 0 {
            self.quiet_until_ns = event.monotonic_ns.saturating_add(self.cooldown_ns);
        }
        let Some(remaining) = &mut self.remaining else { return false };
        *remaining = remaining.saturating_sub(1);
        let last = *remaining == 0;
        if last {
            self.kinds = 0;
        }
        last
    }
}

/// Of this container; what the observer says of the whole shim concerns each of its containers.
fn is_of(event: &Encoded<'_>, id: &str) -> bool {
    match event.container_id() {
        Some(container) => container == id.as_bytes(),
        None => kinds_of("observer.*").is_some_and(|kinds| kinds & (1 << event.kind) != 0),
    }
}

fn last_part(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// The bits of a type, or of `group.*`.
fn kinds_of(name: &str) -> Option<u16> {
    let is_named = |known: &str| match name.strip_suffix('*') {
        Some(group) => group.ends_with('.') && known.starts_with(group),
        None => known == name,
    };
    let bit = |(index, known): (usize, &&str)| if is_named(known) { 1 << index } else { 0 };
    let kinds = EVENT_TYPES.iter().enumerate().map(bit).fold(0, |all, bit: u16| all | bit);
    (kinds != 0).then_some(kinds)
}

fn origin_of(name: &str) -> Result<Origin, Invalid> {
    let all = [Origin::Init, Origin::Exec, Origin::Descendant, Origin::Injected];
    all.into_iter()
        .find(|origin| origin.as_str() == name)
        .ok_or_else(|| Invalid::Origin(name.to_owned()))
}

#[cfg(test)]
mod tests;
