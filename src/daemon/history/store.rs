//! Stores events in the database: one transaction for a batch of items.
//!
//! The cursor of a shim is stored in the transaction of its events. A shim sends the events after
//! its cursor, so an event is stored once, whenever the daemon was killed. A row at or before the
//! cursor is left out, and a hole after it becomes a gap.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{
    limits::{Limits, remove_oldest},
    queue::{Item, ShimEnd, ShimIdentity},
    schema::{self, Problem},
    writing::{Known, Writing},
};

/// The database, open for the writer.
#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    known: Known,
}

/// What a transaction did.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Written {
    /// How many events were stored, including gaps.
    pub(super) stored: u64,
    /// Whether there are still events beyond the limits, so that more have to be removed.
    pub(super) has_more_to_remove: bool,
}

impl Store {
    /// Opens the database, and creates it if there is none.
    pub(super) fn open(path: &Path, limits: &Limits, now_ns: u64) -> Result<Self, Problem> {
        let connection = schema::open(path, now_ns, limits.log_bytes() / 2)?;
        Ok(Self { connection, known: Known::default() })
    }

    /// The seq of the last stored event of each shim that has not ended, by epoch.
    pub(super) fn cursors(&self) -> Result<HashMap<String, u64>, Problem> {
        let open = "SELECT epoch, seq FROM shims WHERE ended_ns IS NULL AND epoch != ''";
        let mut statement = self.connection.prepare(open)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, u64>(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Notes that no daemon ran until now: a gap for each shim that has ended since, and one for
    /// shims that started and ended meanwhile. `living` has the epochs of the living shims.
    pub(super) fn note_absence(
        &mut self,
        living: &HashSet<String>,
        now_ns: u64,
    ) -> Result<(), Problem> {
        let open = "SELECT epoch, namespace, id, seq FROM shims
                    WHERE ended_ns IS NULL AND epoch != ''";
        let mut statement = self.connection.prepare(open)?;
        let rows = statement.query_map([], |row| {
            let shim = ShimIdentity { epoch: row.get(0)?, namespace: row.get(1)?, id: row.get(2)? };
            let (shim, last_seq) = (Arc::new(shim), row.get(3)?);
            Ok(ShimEnd { shim, last_seq, is_complete: false, time_ns: now_ns })
        })?;
        let shims: Vec<ShimEnd> = rows.collect::<rusqlite::Result<_>>()?;
        drop(statement);
        self.transaction(|writing| {
            shims
                .iter()
                .filter(|one| !living.contains(&one.shim.epoch))
                .try_for_each(|end| writing.end(end))?;
            writing.absence(now_ns)
        })?;
        Ok(())
    }

    /// Stores items, and removes the oldest events beyond the limits, in one transaction. After an
    /// error nothing was stored.
    pub(super) fn write(
        &mut self,
        items: &[Item],
        limits: &Limits,
        now_ns: u64,
    ) -> Result<Written, Problem> {
        let mut has_more_to_remove = false;
        let stored = self.transaction(|writing| {
            for item in items {
                match item {
                    Item::Events { shim, rows } => writing.rows(shim, rows)?,
                    Item::Ended(end) => writing.end(end)?,
                }
            }
            has_more_to_remove =
                remove_oldest(writing.connection(), limits, writing.stored(), now_ns)?;
            Ok(())
        })?;
        Ok(Written { stored, has_more_to_remove })
    }

    /// Empties the write-ahead log. Returns whether it is empty: a reader can prevent it.
    pub(super) fn empty_log(&self) -> Result<bool, Problem> {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        Ok(self.connection.query_row(checkpoint, [], |row| row.get::<_, i64>(0))? == 0)
    }

    /// Runs `work` in a transaction, and returns how many events it has stored.
    fn transaction(
        &mut self,
        work: impl FnOnce(&mut Writing<'_>) -> rusqlite::Result<()>,
    ) -> Result<u64, Problem> {
        let result = self.try_transaction(work);
        if result.is_err() {
            self.known = Known::default();
        }
        result.map_err(Problem::from)
    }

    fn try_transaction(
        &mut self,
        work: impl FnOnce(&mut Writing<'_>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<u64> {
        let Self { connection, known } = self;
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        let mut writing = Writing::new(&transaction, known)?;
        work(&mut writing)?;
        let stored = writing.stored();
        drop(writing);
        transaction.commit()?;
        Ok(stored)
    }
}
