//! Reads events page by page. A page is a transaction of its own: a request that lasts, or a
//! client that stops reading, keeps nothing that the writer would have to wait for.

use std::collections::{HashMap, hash_map::Entry};

use containerd_shim_protos::protobuf::Message as _;
use rusqlite::{Connection, params_from_iter, types::Value};

use super::{
    filter::Filters,
    limits::Limits,
    lookup::{Page, complete_since, container_of, containers},
    row::{CONTAINERS_CGROUP, Columns, event_of},
    schema::Problem,
};
use crate::api::{Container, Event, HistoryEventsRequest};

/// A page ends after this many bytes of events,
const PAGE_BYTES: u64 = 256 << 10;

/// or after so many rows were read, whether they match or not.
const PAGE_ROWS: u64 = 8192;

/// Up to this number of containers, the rows of each are found by the index. The rows of more are
/// found by time.
const CONTAINERS_MAX: usize = 16;

/// The parameters of the statement before those of the filters: the range of times, the greatest
/// id, the position (its time and id), and the number of rows.
const OWN_PARAMETERS: usize = 6;

/// A position in the order of the answer: the time of an event, and its id.
type Position = (u64, i64);

/// A request for events, while it is answered.
#[derive(Debug)]
pub(super) struct Query {
    connection: Connection,
    request: HistoryEventsRequest,
    limits: Limits,
    filters: Filters,
    /// The containers to which the request is limited; `None`: all.
    containers: Option<Vec<i64>>,
    /// The greatest id when the request came: later events do not belong to the answer.
    last_id: i64,
    /// Where the next page begins.
    step: Step,
    known: HashMap<i64, Known>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Looks for the first of the last `missing` events that match, from the end. The events from
    /// this position on have been looked at.
    Backward {
        before: Position,
        missing: u32,
    },
    /// Reads what follows this position.
    Forward {
        after: Position,
    },
    Done,
}

/// A container of events.
#[derive(Debug, Clone)]
struct Known {
    container: Option<Container>,
    epoch: String,
    cgroup: String,
}

impl Query {
    pub(super) fn new(
        connection: Connection,
        request: HistoryEventsRequest,
        limits: Limits,
    ) -> Result<Self, Problem> {
        let filters = Filters::new(&connection, &request.filters, OWN_PARAMETERS + 1)?;
        let is_limited = !request.namespace.is_empty() || !request.container_id.is_empty();
        let containers = is_limited
            .then(|| containers(&connection, &request.namespace, &request.container_id))
            .transpose()?;
        let last_id =
            connection
                .query_row("SELECT coalesce(max(id), 0) FROM events", [], |row| row.get(0))?;
        let step = match request.tail {
            0 => Step::Forward { after: (0, 0) },
            missing => Step::Backward { before: (i64::MAX.unsigned_abs(), i64::MAX), missing },
        };
        let known = HashMap::new();
        Ok(Self { connection, request, limits, filters, containers, last_id, step, known })
    }

    /// Reads the next page. It can be without events although it is not the last one.
    pub(super) fn read_page(&mut self, now_ns: u64) -> Result<Page<Event>, Problem> {
        let mut events = Vec::new();
        if self.containers.as_ref().is_some_and(Vec::is_empty) {
            self.step = Step::Done;
        }
        self.step = match self.step {
            Step::Backward { before, missing } => self.read_backward(before, missing, now_ns)?,
            Step::Forward { after } => self.read_forward(after, now_ns, &mut events)?,
            Step::Done => Step::Done,
        };
        // Read after the events: what was removed before they were read is included.
        let complete_since_ns = complete_since(&self.connection, &self.limits, now_ns)?;
        let is_last = matches!(self.step, Step::Done);
        Ok(Page { rows: events, complete_since_ns, is_last })
    }

    fn read_forward(
        &mut self,
        after: Position,
        now_ns: u64,
        events: &mut Vec<Event>,
    ) -> Result<Step, Problem> {
        let columns = "seq, type_name, pid, origin, exec_id, exe, args, cgroup, event";
        let text = self.statement(columns, false);
        let values = self.values(after, now_ns);
        let Self { connection, filters, known, .. } = self;
        let mut statement = connection.prepare(&text)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let (mut at, mut count, mut bytes) = (after, 0, 0);
        while let Some(row) = rows.next()? {
            at = (row.get(0)?, row.get(1)?);
            count += 1;
            let bits: u32 = row.get(3)?;
            if bits == 0 {
                continue;
            }
            let container: i64 = row.get(2)?;
            let known = match known.entry(container) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(read_container(connection, container)?),
            };
            let mut event = read_event(row, known)?;
            if filters.admit(bits, &mut event) {
                bytes += event.compute_size();
                events.push(event);
            }
            if filters.are_exhausted() {
                return Ok(Step::Done);
            }
            if bytes > PAGE_BYTES {
                return Ok(Step::Forward { after: at });
            }
        }
        Ok(if count < PAGE_ROWS { Step::Done } else { Step::Forward { after: at } })
    }

    fn read_backward(
        &self,
        before: Position,
        mut missing: u32,
        now_ns: u64,
    ) -> Result<Step, Problem> {
        let mut statement = self.connection.prepare(&self.statement("", true))?;
        let mut rows = statement.query(params_from_iter(self.values(before, now_ns)))?;
        let (mut at, mut count) = (before, 0);
        while let Some(row) = rows.next()? {
            at = (row.get(0)?, row.get(1)?);
            count += 1;
            if row.get::<_, u32>(3)? != 0 {
                missing -= 1;
            }
            if missing == 0 {
                return Ok(Step::Forward { after: (at.0, at.1 - 1) });
            }
        }
        // There are fewer matching events than were asked for.
        let all = Step::Forward { after: (0, 0) };
        Ok(if count < PAGE_ROWS { all } else { Step::Backward { before: at, missing } })
    }

    /// The statement of a page. Its columns are the position, the container, the bits of the
    /// filters, and then `columns`.
    fn statement(&self, columns: &str, is_backward: bool) -> String {
        let expression = &self.filters.expression;
        let columns = match columns {
            "" => String::new(),
            names => format!(
                ", {}",
                names.replace(
                    "type_name",
                    "(SELECT name FROM types WHERE types.type = events.type)"
                )
            ),
        };
        let (position, order) = match is_backward {
            true => ("time_ns <= ?4 AND (time_ns < ?4 OR id < ?5)", "DESC"),
            false => ("time_ns >= ?4 AND (time_ns > ?4 OR id > ?5)", "ASC"),
        };
        let part = |condition: &str| {
            format!(
                "SELECT time_ns, id, container, {expression}{columns} FROM events
                 WHERE {condition} time_ns BETWEEN ?1 AND ?2 AND id <= ?3 AND {position}"
            )
        };
        let numbers = |all: &[i64]| all.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        let parts = match self.containers.as_deref() {
            None => part(""),
            Some(few) if few.len() <= CONTAINERS_MAX => {
                let one = |container: &i64| part(&format!("container = {container} AND"));
                few.iter().map(one).collect::<Vec<_>>().join(" UNION ALL ")
            }
            // The sign keeps SQLite from the index of containers: then it would have to sort.
            Some(many) => part(&format!("+container IN ({}) AND", numbers(many))),
        };
        format!("{parts} ORDER BY 1 {order}, 2 {order} LIMIT ?6")
    }

    /// How SQLite finds the rows of a page, in both directions.
    #[cfg(test)]
    pub(super) fn plans(&self) -> rusqlite::Result<[String; 2]> {
        let plan = |is_backward| -> rusqlite::Result<String> {
            let explain = format!("EXPLAIN QUERY PLAN {}", self.statement("seq", is_backward));
            let mut statement = self.connection.prepare(&explain)?;
            let values = params_from_iter(self.values((0, 0), 0));
            let rows = statement.query_map(values, |row| row.get::<_, String>(3))?;
            Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?.join("\n"))
        };
        Ok([plan(false)?, plan(true)?])
    }

    fn values(&self, position: Position, now_ns: u64) -> Vec<Value> {
        let number = |value: u64| Value::Integer(i64::try_from(value).unwrap_or(i64::MAX));
        let to_ns = if self.request.to_ns == 0 { u64::MAX } else { self.request.to_ns };
        // What is too old may not have been removed yet.
        let from_ns = self.request.from_ns.max(self.limits.oldest_ns(now_ns));
        let mut values = vec![
            number(from_ns),
            number(to_ns),
            Value::Integer(self.last_id),
            number(position.0),
            Value::Integer(position.1),
            number(PAGE_ROWS),
        ];
        values.extend(self.filters.values.iter().cloned());
        values
    }
}

fn read_container(connection: &Connection, container: i64) -> rusqlite::Result<Known> {
    let select = "SELECT c.namespace, c.id, c.message, c.cgroup, s.epoch
                  FROM containers AS c JOIN shims AS s USING (shim) WHERE c.container = ?1";
    connection.query_row(select, [container], |row| {
        let (namespace, id): (String, String) = (row.get(0)?, row.get(1)?);
        let message: Option<Vec<u8>> = row.get(2)?;
        let cgroup: Option<String> = row.get(3)?;
        let container = container_of(namespace, id, message.as_deref());
        Ok(Known { container, cgroup: cgroup.unwrap_or_default(), epoch: row.get(4)? })
    })
}

fn read_event(row: &rusqlite::Row<'_>, known: &Known) -> rusqlite::Result<Event> {
    let text = |index| row.get::<_, Option<String>>(index);
    let cgroup = match text(11)?.unwrap_or_default() {
        own if own == CONTAINERS_CGROUP => known.cgroup.clone(),
        other => other,
    };
    let columns = Columns {
        time_ns: row.get(0)?,
        seq: row.get(4)?,
        epoch: known.epoch.clone(),
        type_: row.get(5)?,
        container: known.container.clone(),
        pid: row.get::<_, Option<i32>>(6)?.unwrap_or_default(),
        origin: text(7)?.unwrap_or_default(),
        exec_id: text(8)?.unwrap_or_default(),
        exe: text(9)?,
        args: text(10)?,
        cgroup,
    };
    let encoded = row.get_ref(12)?.as_blob()?;
    event_of(columns, encoded).map_err(|error| {
        let type_ = rusqlite::types::Type::Blob;
        rusqlite::Error::FromSqlConversionFailure(12, type_, Box::new(error))
    })
}
