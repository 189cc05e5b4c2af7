//! The schema of the database, and how it is opened. `docs/history.md` documents the schema.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

/// The version of [`SCHEMA`], in the header of the file (`PRAGMA user_version`).
const SCHEMA_VERSION: i64 = 1;

/// Marks the file as a history: `lkht` (`PRAGMA application_id`).
const APPLICATION_ID: i64 = 0x6c6b_6874;

/// The size of a page of the file in bytes.
pub(super) const PAGE_BYTES: u64 = 4096;

/// How long a statement waits for a lock that another process has on the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The connection of the writer keeps this many KiB of pages in memory, a reader's half of it.
const CACHE_KIB: i64 = 4096;

const SCHEMA: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE shims (
    shim INTEGER PRIMARY KEY,
    epoch TEXT NOT NULL UNIQUE,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    seq INTEGER NOT NULL DEFAULT 0,
    monotonic_ns INTEGER NOT NULL DEFAULT 0,
    ended_ns INTEGER
);

CREATE TABLE containers (
    container INTEGER PRIMARY KEY,
    shim INTEGER NOT NULL REFERENCES shims,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    first_ns INTEGER NOT NULL,
    started_ns INTEGER,
    ended_ns INTEGER,
    init_pid INTEGER,
    exit_status INTEGER,
    exit_code INTEGER,
    exit_signal TEXT,
    oom_killed INTEGER,
    pod_namespace TEXT,
    pod_name TEXT,
    pod_uid TEXT,
    container_name TEXT,
    name TEXT,
    image TEXT,
    cgroup TEXT,
    seen INTEGER,
    delivered INTEGER,
    lost INTEGER,
    runtime INTEGER,
    message BLOB,
    UNIQUE (shim, id)
);
CREATE INDEX containers_by_id ON containers (id);
CREATE INDEX containers_by_end ON containers (ended_ns) WHERE ended_ns IS NOT NULL;

CREATE TABLE types (type INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    time_ns INTEGER NOT NULL,
    container INTEGER NOT NULL REFERENCES containers,
    type INTEGER NOT NULL REFERENCES types,
    seq INTEGER NOT NULL,
    pid INTEGER,
    origin TEXT,
    exec_id TEXT,
    exe TEXT,
    args TEXT,
    status INTEGER,
    cgroup TEXT,
    event BLOB NOT NULL
);
CREATE INDEX events_by_container ON events (container, time_ns);
CREATE INDEX events_by_time ON events (time_ns);

CREATE VIEW event_log AS
SELECT strftime('%Y-%m-%dT%H:%M:%S', e.time_ns / 1000000000, 'unixepoch')
           || printf('.%09dZ', e.time_ns % 1000000000) AS time,
       c.namespace, c.id AS container, t.name AS type, e.pid, e.origin, e.exec_id, e.exe, e.args,
       e.status, iif(e.cgroup = '.', c.cgroup, e.cgroup) AS cgroup, s.epoch, e.seq, e.time_ns
FROM events AS e
JOIN containers AS c USING (container)
JOIN shims AS s USING (shim)
JOIN types AS t USING (type);
";

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// The file is damaged, or is not a history.
    #[error("the history's file is damaged")]
    Damaged(#[source] Option<rusqlite::Error>),
    /// A later version of lookout has made the file.
    #[error("the history's file has schema {version}, which is newer than {SCHEMA_VERSION}")]
    Newer {
        /// The version of the file's schema.
        version: i64,
    },
    /// There is no space for the events.
    #[error("the disk of the history's file is full")]
    Full(#[source] rusqlite::Error),
    /// Another process reads the file in a long transaction, so that its write-ahead log, which
    /// has no space left, cannot be emptied.
    #[error("another process reads the history's file, and its write-ahead log is full")]
    Blocked,
    /// The pause after an error has not passed.
    #[error("the history is tried again later")]
    NotYet,
    /// Another error of SQLite.
    #[error("failed to use the history's file")]
    Database(#[source] rusqlite::Error),
    /// The file could not be created or made private.
    #[error("failed to open the history's file")]
    File(#[from] io::Error),
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged(Some(error))
            }
            Some(ErrorCode::DiskFull) => Self::Full(error),
            _ => Self::Database(error),
        }
    }
}

/// Opens the database for the writer, and creates it if there is none. `now_ns` is the time since
/// which a new history is complete. The write-ahead log is emptied after `log_bytes`.
pub(super) fn open(path: &Path, now_ns: u64, log_bytes: u64) -> Result<Connection, Problem> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    // SQLite gives the mode of this file to the files beside it.
    options.open(path)?.set_permissions(fs::Permissions::from_mode(0o600))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (version, application) = (pragma("user_version")?, pragma("application_id")?);
    // A daemon that was killed while it made the file has left one without tables.
    let tables = "SELECT count(*) FROM sqlite_schema";
    let is_new = connection.query_row(tables, [], |row| row.get::<_, i64>(0))? == 0;
    match (version, application) {
        (0, 0) if is_new => {}
        (SCHEMA_VERSION, APPLICATION_ID) => {}
        (version, APPLICATION_ID) if version > SCHEMA_VERSION => {
            return Err(Problem::Newer { version });
        }
        _ => return Err(Problem::Damaged(None)),
    }
    // The page size and the mode of the vacuum can be set only before the first page is written.
    connection.pragma_update(None, "page_size", PAGE_BYTES.cast_signed())?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    tracing::debug!(mode, "the history's journal mode");
    // A kill of the daemon loses nothing that was committed, because the kernel has it. A power cut
    // can lose what was committed since the log was last emptied.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    let log_pages = (log_bytes / PAGE_BYTES).cast_signed();
    connection.pragma_update(None, "wal_autocheckpoint", log_pages)?;
    connection.pragma_update(None, "journal_size_limit", log_bytes.cast_signed())?;
    if is_new {
        let transaction = connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        let begun = "INSERT INTO meta VALUES ('begun_ns', ?1), ('removed_before_ns', 0)";
        transaction.execute(begun, [now_ns.cast_signed()])?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.commit()?;
    }
    Ok(connection)
}

/// Opens the database for a reader, which cannot change it.
pub(super) fn open_for_reading(path: &Path) -> Result<Connection, Problem> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB / 2)?;
    Ok(connection)
}

/// Renames a damaged file to `history.db.damaged-<time>`, with the files that SQLite keeps beside
/// it. An earlier damaged file is removed, so that only one takes space. Returns the new path.
pub(super) fn set_aside(path: &Path, now_ns: u64) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let prefix = format!("{name}.damaged-");
    let directory = path.parent().unwrap_or(Path::new("."));
    for entry in fs::read_dir(directory)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            fs::remove_file(entry.path())?;
        }
    }
    let aside = directory.join(format!("{prefix}{}", now_ns / 1_000_000_000));
    // The log goes first: a new file beside the log of the damaged one would be damaged again.
    for suffix in ["-wal", "-shm", ""] {
        let (from, to) = (suffixed(path, suffix), suffixed(&aside, suffix));
        match fs::rename(from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

/// The length in bytes of the database and of its write-ahead log; 0 for a missing file.
pub(super) fn lengths(path: &Path) -> (u64, u64) {
    let length = |path: PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
    (length(path.to_owned()), length(suffixed(path, "-wal")))
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
