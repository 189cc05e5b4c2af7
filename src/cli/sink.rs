//! What consumes the events of shims.

use std::{io, ops::ControlFlow};

use tokio::time::Instant;

use crate::api::Event;

/// Consumes the events of all shims, one by one. Returning `Break` ends the stream.
pub(super) trait EventSink {
    /// Prints or counts one event.
    fn handle_event(&mut self, event: &Event) -> io::Result<ControlFlow<()>>;

    /// Writes out buffered text. Called when no further event is available immediately.
    fn flush(&mut self) -> io::Result<()>;

    /// When to call [`release`](Self::release), if the sink holds events back.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Handles the events that were held back for long enough, or all of them at the end.
    fn release(&mut self, _is_end: bool) -> io::Result<ControlFlow<()>> {
        Ok(ControlFlow::Continue(()))
    }
}

/// Consumes the batches that the shims send. Returning `Break` ends the stream.
pub(super) trait BatchSink<B> {
    /// Handles what one shim has sent in one message.
    fn handle_batch(&mut self, batch: B) -> io::Result<ControlFlow<()>>;
}

impl<S: EventSink> BatchSink<Vec<Event>> for S {
    fn handle_batch(&mut self, batch: Vec<Event>) -> io::Result<ControlFlow<()>> {
        for event in batch {
            if self.handle_event(&event)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
