//! Keeps the history within its size and age: the oldest events are removed, in small steps.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::schema::PAGE_BYTES;

/// How many events are looked at and removed at a time.
const STEP: u64 = 512;

/// A transaction removes at most this many events and twice as many as it has stored, so that it
/// does not get long.
const REMOVED_MIN: u64 = 4096;

/// The space that is kept free in the file for the events of one transaction.
const RESERVE_BYTES: u64 = 2 << 20;

/// The most pages that are given back to the file system in one transaction.
const VACUUM_PAGES: u64 = 1024;

/// How much the history may keep.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most bytes of the database and its write-ahead log.
    pub size_bytes: u64,
    /// Older events are removed; 0: events of any age stay.
    pub age: Duration,
}

impl Limits {
    /// The part of the size that the write-ahead log may take.
    pub(super) fn log_bytes(&self) -> u64 {
        (self.size_bytes / 8).clamp(4 << 20, 32 << 20)
    }

    /// The time before which events are removed; 0 if none are.
    pub(super) fn oldest_ns(&self, now_ns: u64) -> u64 {
        if self.age.is_zero() {
            return 0;
        }
        now_ns.saturating_sub(u64::try_from(self.age.as_nanos()).unwrap_or(u64::MAX))
    }

    fn file_pages(&self) -> u64 {
        self.size_bytes.saturating_sub(self.log_bytes()) / PAGE_BYTES
    }
}

/// Removes the oldest events beyond the limits, within the writer's transaction, which has stored
/// `stored` events. Returns whether more have to be removed.
pub(super) fn remove_oldest(
    connection: &Connection,
    limits: &Limits,
    stored: u64,
    now_ns: u64,
) -> rusqlite::Result<bool> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    let oldest_ns = limits.oldest_ns(now_ns);
    let most = REMOVED_MIN.max(2 * stored);
    let (mut removed, mut removed_before_ns, mut has_more) = (0, 0, false);
    loop {
        let used = pragma("page_count")? - pragma("freelist_count")?;
        let is_too_large = used + RESERVE_BYTES / PAGE_BYTES > limits.file_pages();
        let Some((last, newest_ns, count)) = oldest_events(connection, is_too_large, oldest_ns)?
        else {
            break;
        };
        if removed >= most {
            has_more = true;
            break;
        }
        connection.execute("DELETE FROM events WHERE id <= ?1", [last])?;
        removed += count;
        removed_before_ns = removed_before_ns.max(newest_ns + 1);
    }
    if removed > 0 {
        connection.execute(
            "UPDATE meta SET value = max(value, ?1) WHERE key = 'removed_before_ns'",
            [removed_before_ns],
        )?;
        remove_containers(connection)?;
    }
    // The file is larger than it may be only after `history_size` was lowered.
    let beyond = pragma("page_count")?.saturating_sub(limits.file_pages());
    if beyond > 0 && pragma("freelist_count")? > 0 {
        let pages = beyond.min(VACUUM_PAGES);
        let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        has_more |= beyond > pages;
    }
    Ok(has_more)
}

/// The events to remove next: the id of the last one, the time of the newest, and how many they
/// are. `None` if none have to be removed.
fn oldest_events(
    connection: &Connection,
    is_too_large: bool,
    oldest_ns: u64,
) -> rusqlite::Result<Option<(i64, u64, u64)>> {
    let mut statement =
        connection.prepare("SELECT id, time_ns FROM events ORDER BY id LIMIT ?1")?;
    let mut rows = statement.query(params![if is_too_large { STEP } else { STEP / 8 }])?;
    let mut found = None;
    while let Some(row) = rows.next()? {
        let (id, time_ns): (i64, u64) = (row.get(0)?, row.get(1)?);
        if !is_too_large && time_ns >= oldest_ns {
            break;
        }
        let (_, newest_ns, count) = found.unwrap_or_default();
        found = Some((id, time_ns.max(newest_ns), count + 1));
    }
    Ok(found)
}

/// Removes containers that have ended and of which no event is left, and shims without containers.
fn remove_containers(connection: &Connection) -> rusqlite::Result<()> {
    let removed = connection.execute(
        "DELETE FROM containers WHERE container IN (
             SELECT container FROM containers AS old
             WHERE ended_ns < (SELECT value FROM meta WHERE key = 'removed_before_ns')
                 AND NOT EXISTS (SELECT 1 FROM events WHERE container = old.container)
             LIMIT 1000)",
        [],
    )?;
    if removed > 0 {
        connection.execute(
            "DELETE FROM shims WHERE ended_ns IS NOT NULL
                 AND NOT EXISTS (SELECT 1 FROM containers WHERE shim = shims.shim)",
            [],
        )?;
    }
    Ok(())
}
