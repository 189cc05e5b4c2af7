//! The statements of one transaction of the writer.

use std::{collections::HashMap, sync::Arc};

use containerd_shim_protos::protobuf::Message as _;
use rusqlite::{Connection, OptionalExtension as _, Statement, params};

use super::{
    queue::{ShimEnd, ShimIdentity},
    row::{CONTAINERS_CGROUP, Change, Row},
};
use crate::api::Container;

const INSERT_EVENT: &str = "
INSERT INTO events (time_ns, container, type, seq, pid, origin, exec_id, exe, args, status, cgroup,
                    event)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

/// One transaction of the writer.
#[derive(Debug)]
pub(super) struct Writing<'c> {
    connection: &'c Connection,
    insert: Statement<'c>,
    known: &'c mut Known,
    stored: u64,
}

/// What is in the database, so that it need not be read for each event. It is forgotten after a
/// transaction that failed.
#[derive(Debug, Default)]
pub(super) struct Known {
    shims: HashMap<Arc<ShimIdentity>, KnownShim>,
    types: HashMap<String, i64>,
}

#[derive(Debug)]
struct KnownShim {
    shim: i64,
    /// The seq and the time of the last stored event.
    seq: u64,
    monotonic_ns: u64,
    /// The shim's containers that have not ended, by id. The events of the whole shim have the
    /// container with an empty id.
    containers: HashMap<String, KnownContainer>,
    /// Gaps without a seq, which this subscriber alone has: they say what is missing before the
    /// next event. They are stored with that event, because after a kill of the daemon the shim
    /// reports them once more.
    gaps: Vec<Row>,
}

#[derive(Debug, Clone)]
struct KnownContainer {
    container: i64,
    cgroup: String,
    is_described: bool,
}

impl<'c> Writing<'c> {
    pub(super) fn new(connection: &'c Connection, known: &'c mut Known) -> rusqlite::Result<Self> {
        let insert = connection.prepare(INSERT_EVENT)?;
        Ok(Self { connection, insert, known, stored: 0 })
    }

    pub(super) fn connection(&self) -> &'c Connection {
        self.connection
    }

    /// How many events were stored, including gaps.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// Stores rows of a shim, except for those that are stored already.
    pub(super) fn rows(
        &mut self,
        identity: &Arc<ShimIdentity>,
        rows: &[Row],
    ) -> rusqlite::Result<()> {
        let mut shim = self.take_shim(identity)?;
        let before = shim.seq;
        for row in rows {
            if row.seq == 0 {
                shim.gaps.push(row.clone());
                continue;
            }
            let reported = std::mem::take(&mut shim.gaps);
            if row.seq <= shim.seq {
                continue;
            }
            for gap in &reported {
                self.insert(&mut shim, gap)?;
            }
            let missing = row.seq - shim.seq - 1;
            let counted = reported.iter().map(lost_events).fold(0, u64::saturating_add);
            let unreported = missing.saturating_sub(counted);
            if unreported > 0 {
                let (from_ns, to_ns) = (shim.monotonic_ns, row.monotonic_ns);
                let gap = Row::gap(Some(unreported), row.time_ns, from_ns, to_ns);
                self.insert(&mut shim, &gap)?;
            }
            self.insert(&mut shim, row)?;
            (shim.seq, shim.monotonic_ns) = (row.seq, row.monotonic_ns);
        }
        if shim.seq > before {
            self.connection.execute(
                "UPDATE shims SET seq = ?2, monotonic_ns = ?3 WHERE shim = ?1",
                params![shim.shim, shim.seq, shim.monotonic_ns],
            )?;
        }
        self.known.shims.insert(identity.clone(), shim);
        Ok(())
    }

    /// Notes that a shim has ended. What is missing of its events becomes a gap.
    pub(super) fn end(&mut self, end: &ShimEnd) -> rusqlite::Result<()> {
        let ShimEnd { shim: identity, last_seq, is_complete, time_ns } = end;
        let mut shim = self.take_shim(identity)?;
        for gap in std::mem::take(&mut shim.gaps) {
            self.insert(&mut shim, &gap)?;
        }
        let lost = last_seq.saturating_sub(shim.seq);
        if lost > 0 || !is_complete {
            let lost = is_complete.then_some(lost);
            let gap = Row::gap(lost, *time_ns, shim.monotonic_ns, 0);
            self.insert(&mut shim, &gap)?;
        }
        self.connection.execute(
            "UPDATE containers SET ended_ns = ?2 WHERE shim = ?1 AND ended_ns IS NULL",
            params![shim.shim, time_ns],
        )?;
        self.connection.execute(
            "UPDATE shims SET ended_ns = ?2 WHERE shim = ?1",
            params![shim.shim, time_ns],
        )?;
        Ok(())
    }

    /// Notes that no daemon ran before this time, so that the events of shims that started and
    /// ended meanwhile are missing.
    pub(super) fn absence(&mut self, time_ns: u64) -> rusqlite::Result<()> {
        let no_shim = Arc::<ShimIdentity>::default();
        let mut shim = self.take_shim(&no_shim)?;
        self.insert(&mut shim, &Row::gap(None, time_ns, 0, 0))
    }

    fn insert(&mut self, shim: &mut KnownShim, row: &Row) -> rusqlite::Result<()> {
        let type_ = self.type_(&row.type_)?;
        let container = self.container(shim, row)?;
        let text = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
        let cgroup = match row.cgroup.as_str() {
            path if path == container.cgroup && !path.is_empty() => Some(CONTAINERS_CGROUP.into()),
            path => text(path),
        };
        self.insert.execute(params![
            row.time_ns,
            container.container,
            type_,
            row.seq,
            (row.pid != 0).then_some(row.pid),
            text(&row.origin),
            row.exec_id,
            row.exe,
            row.args,
            row.status,
            cgroup,
            row.event,
        ])?;
        self.stored += 1;
        if let Some(change) = &row.change {
            self.change(shim, row, container.container, change)?;
        }
        Ok(())
    }

    /// Changes the row of a container as an event says.
    fn change(
        &self,
        shim: &mut KnownShim,
        row: &Row,
        container: i64,
        change: &Change,
    ) -> rusqlite::Result<()> {
        match change {
            Change::Started { init_pid } => self.connection.execute(
                "UPDATE containers SET started_ns = ?2, init_pid = ?3 WHERE container = ?1",
                params![container, row.time_ns, init_pid],
            )?,
            Change::Exited(ended) => self.connection.execute(
                "UPDATE containers SET exit_status = ?2, exit_code = ?3, exit_signal = ?4,
                     oom_killed = ?5 WHERE container = ?1",
                params![container, ended.status, ended.code, ended.signal, ended.oom_killed],
            )?,
            Change::Closed(account) => {
                if let Some(container) = &row.container {
                    shim.containers.remove(&container.id);
                }
                self.connection.execute(
                    "UPDATE containers SET ended_ns = ?2, seen = ?3, delivered = ?4, lost = ?5,
                         runtime = ?6 WHERE container = ?1",
                    params![
                        container,
                        row.time_ns,
                        account.seen,
                        account.delivered,
                        account.lost,
                        account.runtime
                    ],
                )?
            }
            Change::Lost(_) => 0,
        };
        Ok(())
    }

    /// Takes what is known of a shim, and reads it, or adds the shim, if nothing is.
    fn take_shim(&mut self, identity: &Arc<ShimIdentity>) -> rusqlite::Result<KnownShim> {
        if let Some(shim) = self.known.shims.remove(identity) {
            return Ok(shim);
        }
        let ShimIdentity { epoch, namespace, id } = &**identity;
        self.connection.execute(
            "INSERT INTO shims (epoch, namespace, id) VALUES (?1, ?2, ?3)
             ON CONFLICT (epoch) DO UPDATE SET ended_ns = NULL",
            params![epoch, namespace, id],
        )?;
        self.connection.query_row(
            "SELECT shim, seq, monotonic_ns FROM shims WHERE epoch = ?1",
            [epoch],
            |row| {
                let (shim, seq, monotonic_ns) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(KnownShim {
                    shim,
                    seq,
                    monotonic_ns,
                    containers: HashMap::new(),
                    gaps: Vec::new(),
                })
            },
        )
    }

    /// The container of a row. It is added if it is new, and its names are added when they come.
    fn container(&self, shim: &mut KnownShim, row: &Row) -> rusqlite::Result<KnownContainer> {
        let id = row.container.as_ref().map_or("", |container| &container.id);
        let is_described = row.container.as_ref().is_some_and(Container::is_described);
        if let Some(known) = shim.containers.get(id)
            && (known.is_described || !is_described)
            && (!known.cgroup.is_empty() || row.cgroup.is_empty())
        {
            return Ok(known.clone());
        }
        let known = self.read_container(shim.shim, id)?;
        let mut known = match known {
            Some(known) => known,
            None => self.add_container(shim.shim, id, row)?,
        };
        if is_described && !known.is_described {
            known.is_described = true;
            self.describe(known.container, row.container.as_ref())?;
        }
        if known.cgroup.is_empty() && !row.cgroup.is_empty() {
            known.cgroup = row.cgroup.clone();
            self.connection.execute(
                "UPDATE containers SET cgroup = ?2 WHERE container = ?1",
                params![known.container, known.cgroup],
            )?;
        }
        shim.containers.insert(id.to_owned(), known.clone());
        Ok(known)
    }

    fn read_container(&self, shim: i64, id: &str) -> rusqlite::Result<Option<KnownContainer>> {
        let select = "SELECT container, cgroup, message IS NOT NULL FROM containers
                      WHERE shim = ?1 AND id = ?2";
        let read = |row: &rusqlite::Row<'_>| {
            let cgroup = row.get::<_, Option<String>>(1)?.unwrap_or_default();
            Ok(KnownContainer { container: row.get(0)?, cgroup, is_described: row.get(2)? })
        };
        self.connection.query_row(select, params![shim, id], read).optional()
    }

    fn add_container(&self, shim: i64, id: &str, row: &Row) -> rusqlite::Result<KnownContainer> {
        self.connection.execute(
            "INSERT INTO containers (shim, namespace, id, first_ns)
             SELECT ?1, namespace, ?2, ?3 FROM shims WHERE shim = ?1",
            params![shim, id, row.time_ns],
        )?;
        let container = self.connection.last_insert_rowid();
        Ok(KnownContainer { container, cgroup: String::new(), is_described: false })
    }

    /// Stores what the configuration of a container says about it.
    fn describe(&self, container: i64, named: Option<&Container>) -> rusqlite::Result<()> {
        let Some(named) = named else { return Ok(()) };
        let k8s = named.k8s.get_or_default();
        self.connection.execute(
            "UPDATE containers SET pod_namespace = ?2, pod_name = ?3, pod_uid = ?4,
                 container_name = ?5, message = ?6, name = ?7, image = ?8 WHERE container = ?1",
            params![
                container,
                k8s.namespace,
                k8s.pod_name,
                k8s.pod_uid,
                k8s.container_name,
                named.write_to_bytes().unwrap_or_default(),
                named.name,
                named.image
            ],
        )?;
        Ok(())
    }

    /// The number of an event type. It is added if it is new.
    fn type_(&mut self, name: &str) -> rusqlite::Result<i64> {
        if let Some(type_) = self.known.types.get(name) {
            return Ok(*type_);
        }
        self.connection.execute("INSERT OR IGNORE INTO types (name) VALUES (?1)", [name])?;
        let select = "SELECT type FROM types WHERE name = ?1";
        let type_ = self.connection.query_row(select, [name], |row| row.get(0))?;
        self.known.types.insert(name.to_owned(), type_);
        Ok(type_)
    }
}

/// How many events a gap reports as lost; the greatest number if they were not counted.
fn lost_events(gap: &Row) -> u64 {
    match gap.change {
        Some(Change::Lost(lost)) => lost.unwrap_or(u64::MAX),
        _ => 0,
    }
}
