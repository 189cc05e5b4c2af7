//! The filters of a request, as an expression of SQL.

use rusqlite::{Connection, types::Value};

use crate::{
    api::{Event, Filter},
    model::{EVENT_TYPES, Origin},
};

/// The most filters of a request, as for a subscription to a shim.
const FILTERS_MAX: usize = 32;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidRequest {
    #[error("unknown event type {0:?}")]
    Type(String),
    #[error("unknown origin {0:?}")]
    Origin(String),
    #[error("{0} filters are more than the limit of {FILTERS_MAX}")]
    TooMany(usize),
    #[error("`limit` and `cooldown_ms` of a filter cannot be used with `tail`")]
    LimitWithTail,
}

/// The filters of a request. An event passes if one of them matches.
#[derive(Debug)]
pub(super) struct Filters {
    /// An expression of which bit N is set if the row matches filter N. Its parameters are
    /// [`values`](Self::values), from `?N` on, with the N that was given.
    pub(super) expression: String,
    pub(super) values: Vec<Value>,
    limited: Vec<LimitedFilter>,
}

/// What a filter does beyond matching.
#[derive(Debug)]
struct LimitedFilter {
    /// How many more events it may match; `None`: no limit.
    remaining: Option<u32>,
    cooldown_ns: u64,
    cooldown_until_ns: u64,
    label: String,
}

/// Checks the filters of a request.
pub(super) fn check(filters: &[Filter], tail: u32) -> Result<(), InvalidRequest> {
    if filters.len() > FILTERS_MAX {
        return Err(InvalidRequest::TooMany(filters.len()));
    }
    for filter in filters {
        if let Some(name) = filter.types.iter().find(|name| !EVENT_TYPES.iter().any(matches(name)))
        {
            return Err(InvalidRequest::Type(name.clone()));
        }
        let is_known = |name: &str| Origin::ALL.into_iter().any(|origin| origin.as_str() == name);
        if !filter.origin.is_empty() && !is_known(&filter.origin) {
            return Err(InvalidRequest::Origin(filter.origin.clone()));
        }
        if tail > 0 && (filter.limit > 0 || filter.cooldown_ms > 0) {
            return Err(InvalidRequest::LimitWithTail);
        }
    }
    Ok(())
}

impl Filters {
    /// Makes the expression of `filters`, with parameters from `?first` on.
    pub(super) fn new(
        connection: &Connection,
        filters: &[Filter],
        first: usize,
    ) -> rusqlite::Result<Self> {
        let mut made = Self { expression: "1".to_owned(), values: Vec::new(), limited: Vec::new() };
        let types = types(connection)?;
        let mut bits = Vec::new();
        for (index, filter) in filters.iter().enumerate() {
            let mut conditions = Vec::new();
            if !filter.types.is_empty() {
                let wanted =
                    |name: &&(i64, String)| filter.types.iter().any(|one| matches(one)(&name.1));
                let numbers = types.iter().filter(wanted).map(|(type_, _)| type_.to_string());
                conditions.push(format!("type IN ({})", numbers.collect::<Vec<_>>().join(",")));
            }
            let mut parameter = |value: &str| {
                made.values.push(Value::Text(value.to_owned()));
                format!("?{}", first + made.values.len() - 1)
            };
            if !filter.container_id.is_empty() {
                let ids = super::lookup::containers(connection, "", &filter.container_id)?;
                let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
                conditions.push(format!("container IN ({})", ids.join(",")));
            }
            if let Some(id) = &filter.exec_id {
                conditions.push(format!("exec_id = {}", parameter(id)));
            }
            if !filter.origin.is_empty() {
                conditions.push(format!("origin = {}", parameter(&filter.origin)));
            }
            if !filter.executable.is_empty() {
                let name = parameter(&filter.executable);
                conditions.push(format!(
                    "(exe = {name} OR substr(exe, -length({name}) - 1) = '/' || {name})"
                ));
            }
            if filter.failures {
                let exit = types.iter().find(|(_, name)| name == "process.exit");
                let exit = exit.map_or(-1, |(type_, _)| *type_);
                conditions.push(format!("type = {exit} AND status > 0"));
            }
            let all = if conditions.is_empty() { "1".to_owned() } else { conditions.join(" AND ") };
            bits.push(format!("(coalesce({all}, 0) << {index})"));
            made.limited.push(LimitedFilter::new(filter));
        }
        if !bits.is_empty() {
            made.expression = bits.join(" | ");
        }
        Ok(made)
    }

    /// Whether an event passes of which `bits` is the value of the expression. Counts it for limits
    /// and cooldowns, and adds the labels of the filters.
    pub(super) fn admit(&mut self, bits: u32, event: &mut Event) -> bool {
        if self.limited.is_empty() {
            return true;
        }
        let mut passes = false;
        for (index, filter) in self.limited.iter_mut().enumerate() {
            if bits & (1 << index) != 0 && filter.count_match(event.monotonic_ns) {
                passes = true;
                event.labels.extend(Some(filter.label.clone()).filter(|label| !label.is_empty()));
            }
        }
        passes
    }

    /// Whether no further event can pass: all filters have reached their limits.
    pub(super) fn are_exhausted(&self) -> bool {
        !self.limited.is_empty() && self.limited.iter().all(|one| one.remaining == Some(0))
    }
}

impl LimitedFilter {
    fn new(filter: &Filter) -> Self {
        Self {
            remaining: (filter.limit > 0).then_some(filter.limit),
            cooldown_ns: u64::from(filter.cooldown_ms) * 1_000_000,
            cooldown_until_ns: 0,
            label: filter.label.clone(),
        }
    }

    fn count_match(&mut self, monotonic_ns: u64) -> bool {
        if self.remaining == Some(0) || monotonic_ns < self.cooldown_until_ns {
            return false;
        }
        self.remaining = self.remaining.map(|remaining| remaining - 1);
        if self.cooldown_ns > 0 {
            self.cooldown_until_ns = monotonic_ns.saturating_add(self.cooldown_ns);
        }
        true
    }
}

/// The numbers and names of the event types in the database.
fn types(connection: &Connection) -> rusqlite::Result<Vec<(i64, String)>> {
    let mut statement = connection.prepare("SELECT type, name FROM types")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Whether a type is the one that a filter names, or in the group that it names: `process.*`.
fn matches<T: AsRef<str>>(name: &str) -> impl Fn(&T) -> bool {
    move |known| match name.strip_suffix('*') {
        Some(group) => group.ends_with('.') && known.as_ref().starts_with(group),
        None => known.as_ref() == name,
    }
}
