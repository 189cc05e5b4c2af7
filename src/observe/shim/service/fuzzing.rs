//! The fuzz target of requests to the Observer service.

use std::hint::black_box;

use containerd_shim_protos::protobuf::Message as _;

use super::request::{heartbeat, refused, subscription};
use crate::{
    api,
    observe::stream::{Cursor, Since, fuzzing::check_filters},
};

/// Translates a request for a subscription, and applies its filters to an event.
pub(crate) fn subscribe(bytes: &[u8]) {
    let Ok(request) = api::SubscribeRequest::parse_from_bytes(bytes) else { return };
    let milliseconds = heartbeat(request.heartbeat_ms).as_millis();
    assert!((100..=60_000).contains(&milliseconds));
    let Ok(request) = subscription(request) else { return };
    if let Since::After(cursor) = &request.since {
        assert_eq!(cursor.to_string().parse::<Cursor>().as_ref(), Ok(cursor));
    }
    if let Err(why) = check_filters(&request.filters) {
        black_box(refused(&why.into()));
    }
}
