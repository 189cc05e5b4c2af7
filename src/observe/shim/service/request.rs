//! Translates a client's request into a subscription of the event log.

use std::time::Duration;

use containerd_shim_protos::ttrpc::{self, proto::Code};

use super::status;
use crate::{
    api,
    observe::stream::{
        Cursor, FilterSpec, MalformedCursor, Since, SubscribeError, SubscriptionRequest,
    },
};

/// The default of `block_ms`: how long the observer waits for a blocking subscriber, in
/// milliseconds.
const BLOCK_DEFAULT_MS: u32 = 100;

/// The maximum of `block_ms`, in milliseconds.
const BLOCK_MAX_MS: u32 = 1000;

/// The default of `heartbeat_ms`: the time without events after which a heartbeat is sent, in
/// milliseconds.
const HEARTBEAT_DEFAULT_MS: u32 = 5000;

/// The minimum of `heartbeat_ms`, in milliseconds: a client must not keep the shim busy.
const HEARTBEAT_MIN_MS: u32 = 100;

/// The maximum of `heartbeat_ms`, in milliseconds. A client that has disconnected occupies one of
/// the subscriptions for that long.
const HEARTBEAT_MAX_MS: u32 = 60_000;

/// Translates a request into a subscription.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if the cursor or `when_slow` is invalid. The filters are checked by the event
/// log.
pub(super) fn subscription(
    request: api::SubscribeRequest,
) -> Result<SubscriptionRequest, ttrpc::Error> {
    let since = match request.since.as_str() {
        "" if request.backfill => Since::Oldest,
        "" => Since::Now,
        cursor => Since::After(cursor.parse::<Cursor>().map_err(|why| malformed(&why))?),
    };
    let block = match request.when_slow.enum_value() {
        Ok(api::SlowPolicy::DROP_OLDEST) => None,
        Ok(api::SlowPolicy::BLOCK) => Some(block(request.block_ms)),
        Err(number) => {
            return Err(status(
                Code::INVALID_ARGUMENT,
                format!("unknown value {number} of when_slow"),
            ));
        }
    };
    let filters = request.filters.into_iter().map(filter).collect();
    // `internal` is false: a client counts towards the limit of subscribers.
    Ok(SubscriptionRequest { filters, since, block, internal: false })
}

/// The time without events after which a heartbeat is sent; 0 means the default.
pub(super) fn heartbeat(milliseconds: u32) -> Duration {
    // In proto3 a field that was not set is 0.
    let milliseconds = if milliseconds == 0 {
        HEARTBEAT_DEFAULT_MS
    } else {
        milliseconds.clamp(HEARTBEAT_MIN_MS, HEARTBEAT_MAX_MS)
    };
    Duration::from_millis(milliseconds.into())
}

/// The status for a subscription that the event log refused.
pub(super) fn refused(why: &SubscribeError) -> ttrpc::Error {
    let code = match why {
        SubscribeError::Filter(_) | SubscribeError::Ahead { .. } => Code::INVALID_ARGUMENT,
        SubscribeError::TooMany => Code::RESOURCE_EXHAUSTED,
    };
    status(code, why.to_string())
}

fn malformed(why: &MalformedCursor) -> ttrpc::Error {
    status(Code::INVALID_ARGUMENT, why.to_string())
}

fn block(milliseconds: u32) -> Duration {
    let milliseconds =
        if milliseconds == 0 { BLOCK_DEFAULT_MS } else { milliseconds.min(BLOCK_MAX_MS) };
    Duration::from_millis(milliseconds.into())
}

fn filter(filter: api::Filter) -> FilterSpec {
    FilterSpec {
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
