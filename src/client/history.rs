//! Requests for the daemon's history.

use std::time::Duration;

use tokio::time::timeout;
use ttrpc::{r#async::ClientStreamReceiver, context};

use super::daemon::{Daemon, DaemonError};
use crate::api::{
    HistoryContainer, HistoryContainersRequest, HistoryContainersResponse, HistoryEventsRequest,
    HistoryEventsResponse, HistoryState,
};

/// How long the daemon may take to send the next message. It sends one at least after each page
/// that it has read, and a request may have to wait 10 s for others.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// The answer to a request for events of the history, message by message.
pub struct HistoryEvents {
    receiver: ClientStreamReceiver<HistoryEventsResponse>,
    daemon: Daemon,
}

impl HistoryEvents {
    /// Receives the next message; `None` after the last one. The first message has the state of
    /// the history. A message can have no events although others follow.
    ///
    /// # Errors
    ///
    /// [`DaemonError`]. The daemon ends the answer with an error if the client has not called this
    /// for 30 s.
    pub async fn next(&mut self) -> Result<Option<HistoryEventsResponse>, DaemonError> {
        self.daemon.next_message(&mut self.receiver).await
    }
}

impl Daemon {
    /// Requests events that the daemon has stored, also those of containers that have ended.
    ///
    /// # Errors
    ///
    /// [`DaemonError`]. A request that is refused fails at the first [`HistoryEvents::next`].
    pub async fn history_events(
        &self,
        request: &HistoryEventsRequest,
    ) -> Result<HistoryEvents, DaemonError> {
        let call = self.client.history_events(context::Context::default(), request);
        let receiver = self.await_answer(MESSAGE_TIMEOUT, call).await?;
        Ok(HistoryEvents { receiver, daemon: self.clone() })
    }

    /// Lists the containers that the history knows, live and ended, in the order in which the
    /// daemon first saw them, and the state of the history.
    ///
    /// # Errors
    ///
    /// [`DaemonError`].
    pub async fn history_containers(
        &self,
        request: &HistoryContainersRequest,
    ) -> Result<(HistoryState, Vec<HistoryContainer>), DaemonError> {
        let call = self.client.history_containers(context::Context::default(), request);
        let mut receiver = self.await_answer(MESSAGE_TIMEOUT, call).await?;
        let (mut state, mut containers) = (HistoryState::default(), Vec::new());
        while let Some(message) =
            self.next_message::<HistoryContainersResponse>(&mut receiver).await?
        {
            state = message.state.unwrap_or_default();
            containers.extend(message.containers);
        }
        Ok((state, containers))
    }

    async fn next_message<T: protobuf::Message>(
        &self,
        receiver: &mut ClientStreamReceiver<T>,
    ) -> Result<Option<T>, DaemonError> {
        match timeout(MESSAGE_TIMEOUT, receiver.recv()).await {
            // The message is here; this maps the errors.
            Ok(received) => self.await_answer(MESSAGE_TIMEOUT, std::future::ready(received)).await,
            Err(_) => {
                let (socket, limit) = (self.socket.clone(), MESSAGE_TIMEOUT);
                Err(DaemonError::TimedOut { socket, limit })
            }
        }
    }
}

impl std::fmt::Debug for HistoryEvents {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("HistoryEvents")
            .field("daemon", &self.daemon)
            .finish_non_exhaustive()
    }
}
