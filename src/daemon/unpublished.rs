//! Task events that shims have not been able to publish to containerd.
//!
//! The shims are asked at each scrape of the metrics, and at no other time.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::timeout;

use crate::{
    api::StatusResponse,
    client::{Registration, Shim},
    clock::realtime_ns,
};

/// How many shims are asked for their unpublished events at once. Each connection to a shim takes a
/// descriptor.
const CONCURRENT_REQUESTS: usize = 32;

/// How long one shim may take to answer, and how long all shims together may take. A shim answers
/// within a millisecond unless it is stopped.
const ANSWER_TIMEOUTS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));

/// The task events that containerd has not acknowledged, of all shims that answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnpublishedEvents {
    /// How many shims answered in time.
    pub shims: usize,
    /// How many task events these shims have not published.
    pub events: u64,
    /// The size of these events in bytes.
    pub bytes: u64,
    /// The age of the oldest of these events; 0 if there is none.
    pub oldest: Duration,
}

impl UnpublishedEvents {
    /// Asks `shims` for their unpublished task events. A shim that does not answer in time is left
    /// out.
    pub async fn collect(shims: Vec<Registration>) -> Self {
        let mut all = Self::default();
        let answers =
            futures::stream::iter(shims).map(request_status).buffer_unordered(CONCURRENT_REQUESTS);
        let asked = answers.for_each(|answer| {
            all.add_answer(answer.as_ref(), realtime_ns());
            std::future::ready(())
        });
        // If the timeout expires, `all` has the answers that were received before it.
        let _ = timeout(ANSWER_TIMEOUTS.1, asked).await;
        all
    }

    /// Adds what one shim has answered; nothing for a shim that has not answered (`None`).
    fn add_answer(&mut self, answer: Option<&StatusResponse>, now_ns: u64) {
        let Some(answer) = answer else { return };
        let age =
            answer.oldest_unpublished_ns.map_or(0, |oldest_ns| now_ns.saturating_sub(oldest_ns));
        self.shims += 1;
        self.events += answer.unpublished_events;
        self.bytes += answer.unpublished_bytes;
        self.oldest = self.oldest.max(Duration::from_nanos(age));
    }
}

/// Asks one shim for its status; `None` if the shim does not answer in time.
async fn request_status(registration: Registration) -> Option<StatusResponse> {
    let asked = async { Shim::connect(registration).await?.status().await };
    timeout(ANSWER_TIMEOUTS.0, asked).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that the greatest age is kept, that counts and sizes are added up, and that a shim
    /// that does not answer is not counted as one without events.
    #[test]
    fn answers_are_summed_up_with_the_greatest_age() {
        let mut all = UnpublishedEvents::default();
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
            all.add_answer(answer.as_ref(), 100);
        }
        assert_eq!(
            all,
            UnpublishedEvents { shims: 3, events: 3, bytes: 300, oldest: Duration::from_nanos(60) }
        );
        // After the clock was set back, the age of an event is 0 and not negative.
        let mut all = UnpublishedEvents::default();
        all.add_answer(Some(&answer(1, Some(200))), 100);
        assert_eq!(all.oldest, Duration::ZERO);
    }
}
