//! What a client asked for, in the event_log's words.

use std::time::Duration;

use containerd_shim_protos::ttrpc::{self, proto::Code};

use super::status;
use crate::{
    api,
    observe::stream::{Cursor, Malformed, Refused, Request, Since, Wanted},
};

/// How long a blocking subscriber is waited for where it does not say.
const BLOCK: u32 = 100;

/// And at most.
const BLOCK_MAX: u32 = 1000;

/// The silence after which a heartbeat comes where the client does not say, in milliseconds.
const HEARTBEAT: u32 = 5000;

/// And at least: a client must not make the shim busy.
const HEARTBEAT_MIN: u32 = 100;

/// And at most: until then a client that has gone keeps its place.
const HEARTBEAT_MAX: u32 = 60_000;

/// The subscription that is asked for.
pub(super) fn subscription(request: api::SubscribeRequest) -> Result<Request, ttrpc::Error> {
    let since = match request.since.as_str() {
        "" if request.backfill => Since::Oldest,
        "" => Since::Now,
        cursor => Since::After(cursor.parse::<Cursor>().map_err(|why| malformed(&why))?),
    };
    let block = match request.when_slow.enum_value() {
        Ok(api::SlowPolicy::DROP_OLDEST) => None,
        Ok(api::SlowPolicy::BLOCK) => Some(block(request.block_ms)),
        Err(number) => {
            return Err(status(Code::INVALID_ARGUMENT, format!("unknown when_slow {number}")));
        }
    };
    let filters = request.filters.into_iter().map(filter).collect();
    Ok(Request { filters, since, block, internal: false })
}

/// How long silence may last.
pub(super) fn heartbeat(milliseconds: u32) -> Duration {
    let milliseconds = if milliseconds == 0 {
        HEARTBEAT
    } else {
        milliseconds.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX)
    };
    Duration::from_millis(milliseconds.into())
}

/// The status of a refusal.
pub(super) fn refused(why: &Refused) -> ttrpc::Error {
    let code = match why {
        Refused::Filter(_) | Refused::Ahead { .. } => Code::INVALID_ARGUMENT,
        Refused::TooMany => Code::RESOURCE_EXHAUSTED,
    };
    status(code, why.to_string())
}

fn malformed(why: &Malformed) -> ttrpc::Error {
    status(Code::INVALID_ARGUMENT, why.to_string())
}

fn block(milliseconds: u32) -> Duration {
    let milliseconds = if milliseconds == 0 { BLOCK } else { milliseconds.min(BLOCK_MAX) };
    Duration::from_millis(milliseconds.into())
}

fn filter(filter: api::Filter) -> Wanted {
    Wanted {
        types: filter.types,
        container_id: filter.container_id,
        exec_id: filter.exec_id,
        origin: filter.origin,
        executable: filter.executable,
        failures: filter.failures,
        limit: filter.limit,
        cooldown: Duration::from_millis(filter.cooldown_ms.into()),
        label: filter.label,
    }
}
