//! The two streams, Subscribe and Exits. Both read a batch, encode it and send it, or send a
//! heartbeat after a time without events.

use std::{sync::Arc, time::Duration};

use containerd_shim_protos::{
    protobuf::{self, Message as _},
    ttrpc::{
        self,
        r#async::{ServerStreamSender, StreamInner},
        proto::Code,
    },
};

use super::{SCHEMA_VERSION, Service, request, status};
use crate::{
    api,
    clock::realtime_ns,
    observe::{
        encode,
        stream::{EventLog, FilterSpec, ReadBounds, SubscriptionRequest},
    },
    wire::Writer,
};

/// How much of the event log one message of a stream contains. The bounds are far below ttrpc's 4
/// MiB, because a slow client keeps one message and its events in memory. They are also below
/// `M_MMAP_THRESHOLD`, from which on the allocator maps each buffer anew.
const MESSAGE_BOUNDS: ReadBounds = ReadBounds { events: 512, bytes: 40 << 10 };

/// The number of events in a row after which a stream pauses before its next message. Each message
/// wakes a reader, and in a storm the wake-ups cost more than the events.
const PAUSE_AFTER_EVENTS: usize = 64;

/// The length of the pause that a stream makes after [`PAUSE_AFTER_EVENTS`].
const PAUSE: Duration = Duration::from_millis(10);

/// Serves one call of Subscribe until the client disconnects or the event log is closed.
pub(super) async fn events(
    service: &Service,
    request: api::SubscribeRequest,
    stream: &StreamInner,
) -> ttrpc::Result<()> {
    let heartbeat = request::heartbeat(request.heartbeat_ms);
    let mut subscription = service
        .event_log
        .subscribe(request::subscription(request)?)
        .map_err(|why| request::refused(&why))?;
    let encoder = service.event_log.encoder();
    let hello = encoder.hello(
        SCHEMA_VERSION,
        &service.queries.capabilities(),
        subscription.begins_after(),
        &subscription.take_containers(),
        realtime_ns(),
    );
    let mut message = batch(vec![hello], Vec::new())?;
    let (mut in_a_row, mut reached_newest) = (0, true);
    // A send fails only when the client has disconnected, so there is no error to report.
    while stream.send(message).await.is_ok() {
        // The stream pauses only if everything was read: a subscriber that is behind must not wait
        // longer.
        if reached_newest && std::mem::take(&mut in_a_row) >= PAUSE_AFTER_EVENTS {
            tokio::time::sleep(PAUSE).await;
        }
        message = match tokio::time::timeout(heartbeat, subscription.next(MESSAGE_BOUNDS)).await {
            Err(_) => batch(Vec::new(), Vec::new())?,
            Ok(None) => return Ok(()),
            Ok(Some(read)) => {
                in_a_row += read.count;
                reached_newest = read.reached_newest;
                let now = realtime_ns();
                batch(
                    read.gaps.iter().map(|gap| encoder.subscriber_gap(gap, now)).collect(),
                    read.events,
                )?
            }
        };
    }
    Ok(())
}

/// Encodes an `EventBatch`. The shim's own events (hello, gaps of this subscriber) precede the
/// others.
fn batch(own: Vec<api::Event>, encoded: Vec<u8>) -> ttrpc::Result<Vec<u8>> {
    let mut batch = encoded;
    if !own.is_empty() {
        let own = api::EventBatch { events: own, ..Default::default() };
        let own = own.write_to_bytes().map_err(|error| coding_error(&error))?;
        // Encoded messages can be concatenated: their repeated fields are, too.
        batch.splice(..0, own);
    }
    Writer::new(&mut batch).number(2, realtime_ns());
    Ok(batch)
}

fn coding_error(error: &protobuf::Error) -> ttrpc::Error {
    ttrpc::Error::Others(error.to_string())
}

/// Serves one call of Exits until the client disconnects, the event log is closed, or events were
/// lost.
pub(super) async fn exits(
    event_log: &Arc<EventLog>,
    request: api::ExitsRequest,
    sender: &ServerStreamSender<api::ExitBatch>,
) -> ttrpc::Result<()> {
    let types = vec!["process.exit".to_owned()];
    let filters =
        vec![FilterSpec { types, container_id: request.container_id, ..Default::default() }];
    let mut subscription = event_log
        .subscribe(SubscriptionRequest { filters, ..Default::default() })
        .map_err(|why| request::refused(&why))?;
    let heartbeat = request::heartbeat(0);
    // An empty message shows that the subscription exists: every exit from here on is delivered.
    let mut message = api::ExitBatch::default();
    while sender.send(&message).await.is_ok() {
        message = match tokio::time::timeout(heartbeat, subscription.next(MESSAGE_BOUNDS)).await {
            Err(_) => api::ExitBatch::default(),
            Ok(None) => return Ok(()),
            Ok(Some(read)) => {
                // An ExitBatch cannot report a gap, so the stream ends with an error instead.
                if let Some(lost) = read.gaps.iter().find_map(|gap| gap.lost) {
                    return Err(status(
                        Code::DATA_LOSS,
                        format!("{lost} exits were lost: the client is too slow"),
                    ));
                }
                let events = read.decoded().map_err(|error| coding_error(&error))?;
                api::ExitBatch {
                    exits: events.iter().filter_map(encode::exit).collect(),
                    ..Default::default()
                }
            }
        };
    }
    Ok(())
}
