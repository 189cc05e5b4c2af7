//! The two ends of the event queue: [`Publisher`] appends events to it, and the only [`Sender`]
//! sends them.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use containerd_shim_protos::{
    protobuf::{Message as _, MessageField},
    shim::event::Envelope,
};
use tokio::sync::Notify;

use super::{
    best_effort::BestEffort,
    connection::{Connection, Forwarded},
    event::{TaskEvent, nanoseconds, timestamp},
    outbox::{Front, Outbox},
};
use crate::workers::{self, Work};

/// Delay between the return of containerd and the first event sent to it. containerd keeps no
/// history of events, so its clients need time to reconnect and subscribe before the replay.
const REPLAY_DELAY: Duration = Duration::from_secs(2);

/// Interval of attempts to reach containerd.
const RETRY: Duration = Duration::from_millis(500);

/// Publishes events to containerd. Clones share one queue.
#[derive(Debug, Clone)]
pub struct Publisher {
    queue: Arc<Queue>,
}

#[derive(Debug)]
struct Queue {
    namespace: String,
    /// Locked for one record at a time, never across an await.
    outbox: Mutex<Outbox>,
    /// The time of the record that is being sent, which is the oldest; `None` if there is none.
    sending: Mutex<Option<u64>>,
    /// Notified when a record is appended.
    filled: Notify,
    /// Notified when the outbox is empty.
    drained: Notify,
    best_effort: BestEffort,
}

/// The size in bytes of the events that were not acknowledged in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unacknowledged(pub u64);

/// The task events that containerd has not acknowledged yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpublished {
    /// The number of unacknowledged events.
    pub events: u64,
    /// The size of these events in bytes, on disk and in memory.
    pub bytes: u64,
    /// The time of the oldest event, in nanoseconds since 1970; `None` if there is no event.
    pub oldest_ns: Option<u64>,
}

/// The sending end of the queue. Call [`run`](Sender::run) once; it runs as long as the shim.
#[derive(Debug)]
pub struct Sender {
    queue: Arc<Queue>,
    connection: Connection,
    /// The connection for best-effort events. It is opened when the first such event is sent.
    best_effort: Connection,
}

impl Publisher {
    /// Creates a queue with its outbox at the path `outbox`, and returns its two ends. The
    /// [`Sender`] sends to the events service at `address` (containerd's `TTRPC_ADDRESS`, a path
    /// with or without `unix://`).
    #[must_use]
    pub fn new(namespace: &str, address: &str, outbox: &Path) -> (Self, Sender) {
        let queue = Arc::new(Queue {
            namespace: namespace.to_owned(),
            outbox: Mutex::new(Outbox::create(outbox)),
            sending: Mutex::new(None),
            filled: Notify::new(),
            drained: Notify::new(),
            best_effort: BestEffort::default(),
        });
        let (connection, best_effort) = (Connection::new(address), Connection::new(address));
        let sender = Sender { queue: queue.clone(), connection, best_effort };
        (Self { queue }, sender)
    }

    /// Puts an event into the queue, with the current time. Returns at once.
    pub fn publish(&self, event: TaskEvent) {
        let envelope = Envelope {
            timestamp: MessageField::some(timestamp(SystemTime::now())),
            namespace: self.queue.namespace.clone(),
            topic: event.topic().to_owned(),
            event: MessageField::some(event.into_message()),
            ..Default::default()
        };
        // Fails only on a missing required field, which proto3 does not have.
        let Ok(record) = envelope.write_to_bytes() else { return };
        self.queue.lock().append(&record);
        self.queue.filled.notify_one();
        Queue::tend_file(&self.queue);
    }

    /// Publishes an event that is not a task event and may be lost. `value` is a message of the
    /// type `type_url`; `topic` must not be below `/tasks/`. The event is sent independently of the
    /// task events, which never wait for it. If too many such events are queued, drops the event
    /// and returns false.
    #[must_use]
    pub fn send_best_effort(&self, topic: &str, type_url: &str, value: Vec<u8>) -> bool {
        self.queue.best_effort.offer(&self.queue.namespace, topic, type_url, value)
    }

    /// The number of accepted best-effort events that containerd has not acknowledged, since the
    /// last call of this function.
    #[must_use]
    pub fn take_dropped_count(&self) -> u64 {
        self.queue.best_effort.take_dropped()
    }

    /// Waits until containerd has acknowledged all task events, but no longer than `within`.
    ///
    /// # Errors
    ///
    /// [`Unacknowledged`] if containerd has not acknowledged all of them within this time.
    pub async fn drain(&self, within: Duration) -> Result<(), Unacknowledged> {
        let drained = async {
            while !self.queue.lock().is_empty() {
                self.queue.drained.notified().await;
            }
        };
        let result = tokio::time::timeout(within, drained).await;
        result.map_err(|_| Unacknowledged(self.queue.lock().waiting()))
    }

    /// The task events that are not acknowledged yet.
    #[must_use]
    pub fn unpublished(&self) -> Unpublished {
        let outbox = self.queue.lock();
        // Between two records the sender has none for a moment.
        let sending = *self.queue.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest_ns = sending.or_else(|| match outbox.front()? {
            Front::InMemory(record) => time_of(&record),
            Front::InFile { .. } => None,
        });
        Unpublished { events: outbox.records(), bytes: outbox.waiting(), oldest_ns }
    }
}

/// The time of a record, in nanoseconds since 1970; `None` if it does not decode.
fn time_of(record: &[u8]) -> Option<u64> {
    Some(nanoseconds(&Envelope::parse_from_bytes(record).ok()?.timestamp))
}

impl Queue {
    /// Does what is to be done with the file of the outbox, on a thread that may block.
    fn tend_file(queue: &Arc<Self>) {
        let Some(job) = queue.lock().next_job() else { return };
        let queue = queue.clone();
        workers::detach(Work::File, move || {
            let result = job.run();
            queue.lock().ended(&job, result);
            Self::tend_file(&queue);
        });
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is a record, and returns the oldest. The record stays in the outbox until
    /// it is acknowledged.
    async fn front(&self) -> Vec<u8> {
        loop {
            let front = self.lock().front();
            let read = match front {
                Some(Front::InMemory(record)) => return record,
                Some(in_file) => workers::run(Work::File, || in_file.read()).await,
                None => {
                    self.drained.notify_one();
                    self.filled.notified().await;
                    continue;
                }
            };
            match read.map_err(io::Error::other).and_then(|read| read) {
                Ok(record) => return record,
                Err(error) => {
                    let bytes = self.lock().skip_file();
                    tracing::error!(%error, bytes, "lost task events: failed to read them");
                }
            }
        }
    }
}

impl Sender {
    /// Sends events. Never returns; drop the future to stop sending.
    pub async fn run(self) {
        let Self { queue, connection, best_effort } = self;
        let mut task_events = TaskEvents { queue: &queue, connection };
        tokio::join!(task_events.run(), queue.best_effort.run(best_effort));
    }
}

/// Sends the task events of the outbox.
struct TaskEvents<'a> {
    queue: &'a Arc<Queue>,
    connection: Connection,
}

impl TaskEvents<'_> {
    async fn run(&mut self) {
        loop {
            let record = self.queue.front().await;
            self.set_sending(time_of(&record));
            self.deliver(&record).await;
            self.queue.lock().pop(record.len());
            self.set_sending(None);
            Queue::tend_file(self.queue);
        }
    }

    fn set_sending(&self, time: Option<u64>) {
        *self.queue.sending.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }

    /// Sends one record repeatedly, until containerd has acknowledged or refused it.
    async fn deliver(&mut self, record: &[u8]) {
        // A record that does not decode can never be delivered, and would block all others.
        let Ok(envelope) = Envelope::parse_from_bytes(record) else { return };
        let mut reconnected = false;
        loop {
            match self.connection.forward(&envelope).await {
                Forwarded::Acknowledged => return,
                Forwarded::Refused(status) => {
                    tracing::error!(
                        topic = envelope.topic,
                        %status,
                        "lost a task event: containerd refused it"
                    );
                    return;
                }
                Forwarded::Unreachable => {
                    self.queue.lock().use_file();
                    Queue::tend_file(self.queue);
                    // The first failure only shows that the connection is old: containerd may have
                    // been restarted long ago.
                    if reconnected {
                        tracing::warn!("containerd does not take task events: retrying");
                        tokio::time::sleep(RETRY).await;
                    }
                    self.reconnect().await;
                    reconnected = true;
                }
            }
        }
    }

    /// Connects to containerd. If it was away until just now, gives its clients the time to
    /// subscribe.
    async fn reconnect(&mut self) {
        let mut was_down = false;
        while !self.connection.connect().await {
            if !was_down {
                tracing::warn!("containerd is unreachable: keeping task events and retrying");
            }
            was_down = true;
            tokio::time::sleep(RETRY).await;
        }
        let served_for = if was_down { Duration::ZERO } else { self.connection.served_for() };
        tokio::time::sleep(REPLAY_DELAY.saturating_sub(served_for)).await;
    }
}
