//! What the requests for events and for containers have in common.

use containerd_shim_protos::protobuf::Message as _;
use rusqlite::Connection;

use super::limits::Limits;
use crate::api::Container;

/// One page of an answer.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) rows: Vec<T>,
    pub(super) complete_since_ns: u64,
    pub(super) is_last: bool,
}

/// The numbers of the containers with this namespace and id, and of the shims' own rows that
/// concern them. An empty namespace or id is any.
pub(super) fn containers(
    connection: &Connection,
    namespace: &str,
    id: &str,
) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare(
        "SELECT container FROM containers
         WHERE (?1 = '' OR namespace = ?1) AND (?2 = '' OR id = ?2)
         UNION
         SELECT own.container FROM containers AS one JOIN containers AS own USING (shim)
         WHERE ?2 != '' AND own.id = '' AND one.id = ?2 AND (?1 = '' OR one.namespace = ?1)
         ORDER BY 1",
    )?;
    let rows = statement.query_map([namespace, id], |row| row.get(0))?;
    rows.collect()
}

/// The time since which events are missing only where a gap says so.
pub(super) fn complete_since(
    connection: &Connection,
    limits: &Limits,
    now_ns: u64,
) -> rusqlite::Result<u64> {
    let newest = "SELECT max(value) FROM meta WHERE key IN ('begun_ns', 'removed_before_ns')";
    let since: u64 = connection.query_row(newest, [], |row| row.get(0))?;
    Ok(since.max(limits.oldest_ns(now_ns)))
}

/// The message of a container; `None` for the shim itself, which has an empty id.
pub(super) fn container_of(
    namespace: String,
    id: String,
    message: Option<&[u8]>,
) -> Option<Container> {
    let named = message.and_then(|message| Container::parse_from_bytes(message).ok());
    (!id.is_empty()).then(|| Container { namespace, id, ..named.unwrap_or_default() })
}
