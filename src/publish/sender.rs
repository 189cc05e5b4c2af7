//! The queue's two ends: [`Publisher`] for those who tell, [`Sender`] for the one task that sends.

use std::{
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
    connection::{Connection, Forwarded},
    event::{TaskEvent, nanoseconds, timestamp},
    journal::Journal,
    unjournaled::Unjournaled,
};

/// How long to wait after containerd came back before the replay begins: it keeps no history, and
/// its clients reconnect too.
const REPLAY_DELAY: Duration = Duration::from_secs(2);

/// How often an absent containerd is tried.
const RETRY: Duration = Duration::from_millis(500);

/// The way to tell containerd. Clones share one queue.
#[derive(Debug, Clone)]
pub struct Publisher {
    queue: Arc<Queue>,
}

#[derive(Debug)]
struct Queue {
    namespace: String,
    /// Locked for one record at a time.
    journal: Mutex<Journal>,
    /// Told when the journal was empty and no longer is.
    filled: Notify,
    /// Told when all has been acknowledged.
    drained: Notify,
    unjournaled: Unjournaled,
}

/// What was still unacknowledged when the shim left, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unacknowledged(pub u64);

/// The task events that containerd has not acknowledged yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpublished {
    /// How many.
    pub events: u64,
    /// What they take, on disk and in memory.
    pub bytes: u64,
    /// When the oldest of them happened, in nanoseconds since 1970; `None` where there is none.
    pub oldest_ns: Option<u64>,
}

/// The sending end. Run it once, for the life of the shim.
#[derive(Debug)]
pub struct Sender {
    queue: Arc<Queue>,
    connection: Connection,
    /// Connects when the first event that is not journaled comes.
    unjournaled: Connection,
}

impl Publisher {
    /// A queue with its journal at `journal`, and the end that sends it to the events service at
    /// `address` (containerd's `TTRPC_ADDRESS`, a path with or without `unix://`).
    #[must_use]
    pub fn new(namespace: &str, address: &str, journal: &Path) -> (Self, Sender) {
        let queue = Arc::new(Queue {
            namespace: namespace.to_owned(),
            journal: Mutex::new(Journal::create(journal)),
            filled: Notify::new(),
            drained: Notify::new(),
            unjournaled: Unjournaled::default(),
        });
        let (connection, unjournaled) = (Connection::new(address), Connection::new(address));
        let sender = Sender { queue: queue.clone(), connection, unjournaled };
        (Self { queue }, sender)
    }

    /// Puts an event into the queue, with the time that it is now.
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
    }

    /// Tells something that is no task event: `value` is the message that `type_url` names, `topic`
    /// never one under `/tasks/`. It is sent beside the task events, which never wait for it, and
    /// may be lost. False where too many wait already: then it is not sent.
    #[must_use]
    pub fn send_unjournaled(&self, topic: &str, type_url: &str, value: Vec<u8>) -> bool {
        self.queue.unjournaled.offer(&self.queue.namespace, topic, type_url, value)
    }

    /// How many of those that were to be tried did not reach containerd since this was last asked.
    #[must_use]
    pub fn take_unsent(&self) -> u64 {
        self.queue.unjournaled.take_dropped()
    }

    /// Waits until all has been acknowledged, at most `within`.
    ///
    /// # Errors
    ///
    /// [`Unacknowledged`] when the time is over.
    pub async fn drain(&self, within: Duration) -> Result<(), Unacknowledged> {
        let drained = async {
            while !self.queue.lock().is_empty() {
                self.queue.drained.notified().await;
            }
        };
        let result = tokio::time::timeout(within, drained).await;
        result.map_err(|_| Unacknowledged(self.queue.lock().waiting()))
    }

    /// What waits for an acknowledgement. Reads the oldest event, from the page cache as a rule.
    #[must_use]
    pub fn unpublished(&self) -> Unpublished {
        let (events, bytes, oldest) = {
            let journal = self.queue.lock();
            // What cannot be read is given up by the sender, which says so.
            (journal.records(), journal.waiting(), journal.front().ok().flatten())
        };
        let oldest = oldest.and_then(|record| Envelope::parse_from_bytes(&record).ok());
        Unpublished {
            events,
            bytes,
            oldest_ns: oldest.map(|envelope| nanoseconds(&envelope.timestamp)),
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest record, once there is one.
    async fn front(&self) -> Vec<u8> {
        loop {
            let front = self.lock().front();
            match front {
                Ok(Some(record)) => return record,
                Ok(None) => {
                    self.drained.notify_one();
                    self.filled.notified().await;
                }
                Err(error) => {
                    let bytes = self.lock().skip_file();
                    tracing::error!(%error, bytes, "events were lost: the journal cannot be read");
                }
            }
        }
    }
}

impl Sender {
    /// Sends for ever. Ends only by being dropped.
    pub async fn run(self) {
        let Self { queue, connection, unjournaled } = self;
        let mut journaled = Journaled { queue: &queue, connection };
        tokio::join!(journaled.run(), queue.unjournaled.run(unjournaled));
    }
}

/// The task events' half.
struct Journaled<'a> {
    queue: &'a Queue,
    connection: Connection,
}

impl Journaled<'_> {
    async fn run(&mut self) {
        loop {
            let record = self.queue.front().await;
            self.deliver(&record).await;
            self.queue.lock().pop(record.len());
        }
    }

    /// Sends one record until containerd has it, or has refused it for good.
    async fn deliver(&mut self, record: &[u8]) {
        let Ok(envelope) = Envelope::parse_from_bytes(record) else { return };
        loop {
            match self.connection.forward(&envelope).await {
                Forwarded::Acknowledged => return,
                Forwarded::Refused(status) => {
                    tracing::error!(topic = envelope.topic, %status, "containerd refused an event");
                    return;
                }
                Forwarded::Unreachable => self.reconnect().await,
            }
        }
    }

    async fn reconnect(&mut self) {
        tracing::warn!("containerd is away: events wait");
        while !self.connection.connect().await {
            tokio::time::sleep(RETRY).await;
        }
        tokio::time::sleep(REPLAY_DELAY).await;
    }
}
