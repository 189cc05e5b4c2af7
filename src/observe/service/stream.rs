//! The two streams: read a batch, encode it, send it, or a heartbeat after silence.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use containerd_shim_protos::ttrpc::{self, r#async::ServerStreamSender, proto::Code};

use super::{SCHEMA_VERSION, Service, encode, request, status};
use crate::{
    api,
    model::{Body, Event},
    observe::hub::{Bounds, Hub, Request, Subscription, Wanted},
};

/// What one message may have: a fraction of ttrpc's 4 MiB, because sizes are estimates, and because a
/// slow client keeps one message and what it was made of in memory.
const BATCH: Bounds = Bounds { events: 512, bytes: 512 << 10 };

/// What containerd says of an exit that nobody saw.
const UNKNOWN_STATUS: u32 = 255;

/// Serves one Subscribe.
pub(super) async fn events(
    service: &Service,
    asked: api::SubscribeRequest,
    sender: &ServerStreamSender<api::EventBatch>,
) -> ttrpc::Result<()> {
    let heartbeat = request::heartbeat(asked.heartbeat_ms);
    let mut subscription =
        service.hub.subscribe(request::subscription(asked)?).map_err(|why| request::refused(&why))?;
    let encoder = service.encoder();
    let hello = encoder.hello(SCHEMA_VERSION, &service.questions.capabilities(), subscription.begins_after(), now_ns());
    let mut message = batch(vec![hello]);
    // A send fails when the client has gone, and then there is nobody to tell.
    while sender.send(&message).await.is_ok() {
        drop(message);
        message = match tokio::time::timeout(heartbeat, subscription.next(BATCH)).await {
            Err(_) => batch(Vec::new()),
            Ok(None) => return Ok(()),
            Ok(Some(read)) => {
                let now = now_ns();
                let gaps = read.gaps.iter().map(|gap| encoder.own_gap(gap, now));
                let events = read.events.iter().map(|(event, matched)| {
                    let mut message = encoder.event(event);
                    message.labels = labels(&subscription, matched.filters());
                    message
                });
                batch(gaps.chain(events).collect())
            }
        };
    }
    Ok(())
}

fn batch(events: Vec<api::Event>) -> api::EventBatch {
    api::EventBatch { events, sent_ns: now_ns(), ..Default::default() }
}

fn labels(subscription: &Subscription, filters: impl Iterator<Item = usize>) -> Vec<String> {
    filters.filter_map(|index| subscription.labels().get(index)).filter(|label| !label.is_empty()).cloned().collect()
}

/// Serves one Exits.
pub(super) async fn exits(
    hub: &Arc<Hub>,
    asked: api::ExitsRequest,
    sender: &ServerStreamSender<api::ExitBatch>,
) -> ttrpc::Result<()> {
    let types = vec!["process.exit".to_owned()];
    let filters = vec![Wanted { types, container_id: asked.container_id, ..Default::default() }];
    let mut subscription =
        hub.subscribe(Request { filters, ..Default::default() }).map_err(|why| request::refused(&why))?;
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
                    return Err(status(Code::DATA_LOSS, format!("{lost} exits were lost: the client is too slow")));
                }
                let exits = read.events.iter().filter_map(|(event, _)| exit(event)).collect();
                api::ExitBatch { exits, ..Default::default() }
            }
        };
    }
    Ok(())
}

fn exit(event: &Event) -> Option<api::Exit> {
    let Body::Exit { process, ended, .. } = &event.body else { return None };
    Some(api::Exit {
        timestamp_ns: event.realtime_ns,
        pid: process.key.pid,
        status: ended.map_or(UNKNOWN_STATUS, crate::model::Ended::status),
        container_id: event.container.as_ref().map(|container| container.id.clone()).unwrap_or_default(),
        exec_id: process.exec_id.as_deref().map(encode::text).unwrap_or_default(),
        ..Default::default()
    })
}

/// `CLOCK_REALTIME`, in nanoseconds since 1970.
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
