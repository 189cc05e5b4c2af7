//! What shims could not yet give to containerd. They are asked when somebody wants to know, never
//! otherwise.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::timeout;

use crate::{
    api::StatusResponse,
    client::{Registration, Shim},
    clock::realtime_ns,
};

/// How many shims are asked at once: each takes a descriptor.
const AT_ONCE: usize = 32;

/// How long one shim may take, which answers in a millisecond unless it is stopped; and how long
/// all of them.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));

/// Task events that containerd has not acknowledged, of all shims that said so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpublished {
    /// Shims that answered.
    pub shims: usize,
    /// How many.
    pub events: u64,
    /// What they take.
    pub bytes: u64,
    /// How old the oldest is; 0 where there is none.
    pub oldest: Duration,
}

impl Unpublished {
    /// What these shims have. One that does not answer in time is left out.
    pub async fn ask(shims: Vec<Registration>) -> Self {
        let mut all = Self::default();
        let answers = futures::stream::iter(shims).map(status).buffer_unordered(AT_ONCE);
        let asked = answers.for_each(|answer| {
            all.add(answer.as_ref(), realtime_ns());
            std::future::ready(())
        });
        // What was heard by then counts.
        let _ = timeout(PATIENCE.1, asked).await;
        all
    }

    fn add(&mut self, answer: Option<&StatusResponse>, now_ns: u64) {
        let Some(answer) = answer else { return };
        let age =
            answer.oldest_unpublished_ns.map_or(0, |oldest_ns| now_ns.saturating_sub(oldest_ns));
        self.shims += 1;
        self.events += answer.unpublished_events;
        self.bytes += answer.unpublished_bytes;
        self.oldest = self.oldest.max(Duration::from_nanos(age));
    }
}

async fn status(registration: Registration) -> Option<StatusResponse> {
    let asked = async { Shim::connect(registration).await?.status().await };
    timeout(PATIENCE.0, asked).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that the oldest of all shims is told, that the rest is added up, and that a shim that
    /// says nothing is not counted as one that has nothing.
    #[test]
    fn the_oldest_of_all_is_told() {
        let mut all = Unpublished::default();
        let answer = |events, oldest_ns| {
            let (unpublished_events, unpublished_bytes, oldest_unpublished_ns) =
                (events, events * 100, oldest_ns);
            StatusResponse {
                unpublished_events,
                unpublished_bytes,
                oldest_unpublished_ns,
                ..Default::default()
            }
        };
        for answer in
            [Some(answer(2, Some(70))), Some(answer(0, None)), None, Some(answer(1, Some(40)))]
        {
            all.add(answer.as_ref(), 100);
        }
        assert_eq!(
            all,
            Unpublished { shims: 3, events: 3, bytes: 300, oldest: Duration::from_nanos(60) }
        );
        // A clock that was set back makes nothing younger than now.
        let mut all = Unpublished::default();
        all.add(Some(&answer(1, Some(200))), 100);
        assert_eq!(all.oldest, Duration::ZERO);
    }
}
