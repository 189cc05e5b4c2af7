//! Reads the containers of the history page by page.

use rusqlite::{Connection, params};

use super::{
    limits::Limits,
    lookup::{Page, complete_since, container_of},
    schema::Problem,
};
use crate::api::{ContainerClose, Ended, HistoryContainer, HistoryContainersRequest};

/// The number of containers of a page.
const PAGE: i64 = 500;

/// A request for containers, while it is answered.
#[derive(Debug)]
pub(super) struct ContainerQuery {
    connection: Connection,
    request: HistoryContainersRequest,
    limits: Limits,
    /// The number of the last container that was read.
    after: i64,
}

impl ContainerQuery {
    pub(super) fn new(
        connection: Connection,
        request: HistoryContainersRequest,
        limits: Limits,
    ) -> Self {
        Self { connection, request, limits, after: 0 }
    }

    pub(super) fn read_page(&mut self, now_ns: u64) -> Result<Page<HistoryContainer>, Problem> {
        let complete_since_ns = complete_since(&self.connection, &self.limits, now_ns)?;
        let HistoryContainersRequest { namespace, container_id, .. } = &self.request;
        let mut statement = self.connection.prepare(
            "SELECT container, c.namespace, c.id, message, epoch, first_ns, started_ns, c.ended_ns,
                    exit_status, exit_code, exit_signal, oom_killed, init_pid,
                    seen, delivered, lost, runtime
             FROM containers AS c JOIN shims AS s USING (shim)
             WHERE container > ?1 AND c.id != '' AND (?2 = '' OR c.namespace = ?2)
                 AND (?3 = '' OR c.id = ?3)
             ORDER BY container LIMIT ?4",
        )?;
        let mut rows = statement.query(params![self.after, namespace, container_id, PAGE])?;
        let mut containers = Vec::new();
        while let Some(row) = rows.next()? {
            self.after = row.get(0)?;
            containers.push(read(row)?);
        }
        let is_last = (containers.len() as u64) < PAGE.unsigned_abs();
        Ok(Page { rows: containers, complete_since_ns, is_last })
    }
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<HistoryContainer> {
    let message: Option<Vec<u8>> = row.get(3)?;
    let signal: Option<String> = row.get(10)?;
    let exit = signal.map(|signal| {
        Ok::<_, rusqlite::Error>(Ended {
            status: row.get(8)?,
            code: row.get(9)?,
            signal,
            oom_killed: row.get::<_, Option<bool>>(11)?.unwrap_or_default(),
            ..Default::default()
        })
    });
    let delivered: Option<u64> = row.get(14)?;
    let account = delivered.map(|delivered| {
        Ok::<_, rusqlite::Error>(ContainerClose {
            seen: row.get(13)?,
            delivered,
            lost: row.get(15)?,
            runtime: row.get::<_, Option<u64>>(16)?.unwrap_or_default(),
            ..Default::default()
        })
    });
    Ok(HistoryContainer {
        container: container_of(row.get(1)?, row.get(2)?, message.as_deref()).into(),
        epoch: row.get(4)?,
        first_ns: row.get(5)?,
        started_ns: row.get(6)?,
        ended_ns: row.get(7)?,
        exit: exit.transpose()?.into(),
        init_pid: row.get::<_, Option<i32>>(12)?.unwrap_or_default(),
        account: account.transpose()?.into(),
        ..Default::default()
    })
}
