//! The two streams: read a batch, encode it, send it, or a heartbeat after silence.

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
        stream::{Bounds, EventLog, Request, Wanted},
    },
    wire::Writer,
};

/// What one message may have: far below ttrpc's 4 MiB, because a slow client keeps one message and
/// what it was made of in memory; and less than what the allocator asks the kernel for each time
/// (`M_MMAP_THRESHOLD`).
const BATCH: Bounds = Bounds { events: 512, bytes: 40 << 10 };

/// From how many events in a row on others are let collect before the next: each wakes a reader,
/// and in a storm that costs more than the events.
const MANY: usize = 64;

/// How long they collect then.
const REST: Duration = Duration::from_millis(10);

/// Serves one Subscribe.
pub(super) async fn events(
    service: &Service,
    asked: api::SubscribeRequest,
    stream: &StreamInner,
) -> ttrpc::Result<()> {
    let heartbeat = request::heartbeat(asked.heartbeat_ms);
    let mut subscription = service
        .event_log
        .subscribe(request::subscription(asked)?)
        .map_err(|why| request::refused(&why))?;
    let encoder = service.event_log.encoder();
    let hello = encoder.hello(
        SCHEMA_VERSION,
        &service.questions.capabilities(),
        subscription.begins_after(),
        realtime_ns(),
    );
    let mut message = batch(vec![hello], Vec::new())?;
    let (mut in_a_row, mut is_all) = (0, true);
    // A send fails when the client has gone, and then there is nobody to tell.
    while stream.send(message).await.is_ok() {
        if is_all && std::mem::take(&mut in_a_row) >= MANY {
            tokio::time::sleep(REST).await;
        }
        message = match tokio::time::timeout(heartbeat, subscription.next(BATCH)).await {
            Err(_) => batch(Vec::new(), Vec::new())?,
            Ok(None) => return Ok(()),
            Ok(Some(read)) => {
                in_a_row += read.count;
                is_all = read.is_all;
                let now = realtime_ns();
                batch(read.gaps.iter().map(|gap| encoder.own_gap(gap, now)).collect(), read.events)?
            }
        };
    }
    Ok(())
}

/// An EventBatch: the shim's own events first, which are rare.
fn batch(own: Vec<api::Event>, encoded: Vec<u8>) -> ttrpc::Result<Vec<u8>> {
    let mut batch = encoded;
    if !own.is_empty() {
        let own = api::EventBatch { events: own, ..Default::default() };
        let own = own.write_to_bytes().map_err(|error| not_coded(&error))?;
        batch.splice(..0, own);
    }
    Writer::new(&mut batch).number(2, realtime_ns());
    Ok(batch)
}

fn not_coded(error: &protobuf::Error) -> ttrpc::Error {
    ttrpc::Error::Others(error.to_string())
}

/// Serves one Exits.
pub(super) async fn exits(
    event_log: &Arc<EventLog>,
    asked: api::ExitsRequest,
    sender: &ServerStreamSender<api::ExitBatch>,
) -> ttrpc::Result<()> {
    let types = vec!["process.exit".to_owned()];
    let filters = vec![Wanted { types, container_id: asked.container_id, ..Default::default() }];
    let mut subscription = event_log
        .subscribe(Request { filters, ..Default::default() })
        .map_err(|why| request::refused(&why))?;
    let heartbeat = request::heartbeat(0);
    // Empty: says that whatever exits from here on is told.
    let mut message = api::ExitBatch::default();
    while sender.send(&message).await.is_ok() {
        message = match tokio::time::timeout(heartbeat, subscription.next(BATCH)).await {
            Err(_) => api::ExitBatch::default(),
            Ok(None) => return Ok(()),
            Ok(Some(read)) => {
                // The messages have no word for a hole, so the stream must not go on over one.
                if let Some(lost) = read.gaps.iter().find_map(|gap| gap.lost) {
                    return Err(status(
                        Code::DATA_LOSS,
                        format!("{lost} exits were lost: the client is too slow"),
                    ));
                }
                let events = read.decoded().map_err(|error| not_coded(&error))?;
                api::ExitBatch {
                    exits: events.iter().filter_map(encode::exit).collect(),
                    ..Default::default()
                }
            }
        };
    }
    Ok(())
}
