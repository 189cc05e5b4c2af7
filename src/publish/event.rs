//! The task events that the shim publishes.

use std::time::SystemTime;

use containerd_shim_protos::{
    events::task as events,
    protobuf::{
        Message, MessageField,
        well_known_types::{any::Any, timestamp::Timestamp},
    },
    topics,
};

use crate::model::Exit;

/// One event of a task: its topic and its message.
#[derive(Debug)]
pub struct TaskEvent {
    topic: &'static str,
    message: Any,
}

impl TaskEvent {
    /// The event `/tasks/create`, with `message` as its content.
    #[must_use]
    pub fn create(message: &events::TaskCreate) -> Self {
        Self::new(topics::TASK_CREATE_EVENT_TOPIC, "TaskCreate", message)
    }

    /// The event `/tasks/start`: init (with the pid `pid`) runs the container's program.
    #[must_use]
    pub fn start(container_id: &str, pid: i32) -> Self {
        let container_id = container_id.to_owned();
        let message = events::TaskStart { container_id, pid: number(pid), ..Default::default() };
        Self::new(topics::TASK_START_EVENT_TOPIC, "TaskStart", &message)
    }

    /// The event `/tasks/exec-added`: the exec exists and is not started.
    #[must_use]
    pub fn exec_added(container_id: &str, exec_id: &str) -> Self {
        let (container_id, exec_id) = (container_id.to_owned(), exec_id.to_owned());
        let message = events::TaskExecAdded { container_id, exec_id, ..Default::default() };
        Self::new(topics::TASK_EXEC_ADDED_EVENT_TOPIC, "TaskExecAdded", &message)
    }

    /// The event `/tasks/exec-started`: the process of an exec runs and has the pid `pid`.
    #[must_use]
    pub fn exec_started(container_id: &str, exec_id: &str, pid: i32) -> Self {
        let (container_id, exec_id) = (container_id.to_owned(), exec_id.to_owned());
        let message = events::TaskExecStarted {
            container_id,
            exec_id,
            pid: number(pid),
            ..Default::default()
        };
        Self::new(topics::TASK_EXEC_STARTED_EVENT_TOPIC, "TaskExecStarted", &message)
    }

    /// The event `/tasks/exit`. `id` is the id of the container if init has exited, and the id of
    /// the exec otherwise.
    #[must_use]
    pub fn exit(container_id: &str, id: &str, exit: Exit) -> Self {
        let message = events::TaskExit {
            container_id: container_id.to_owned(),
            id: id.to_owned(),
            pid: number(exit.pid),
            exit_status: exit.status(),
            exited_at: MessageField::some(timestamp(exit.timestamp)),
            ..Default::default()
        };
        Self::new(topics::TASK_EXIT_EVENT_TOPIC, "TaskExit", &message)
    }

    /// The event `/tasks/oom`: the kernel's OOM killer was active in the container's cgroup.
    #[must_use]
    pub fn oom(container_id: &str) -> Self {
        let message =
            events::TaskOOM { container_id: container_id.to_owned(), ..Default::default() };
        Self::new(topics::TASK_OOM_EVENT_TOPIC, "TaskOOM", &message)
    }

    /// The event `/tasks/paused`: all processes of the container are frozen.
    #[must_use]
    pub fn paused(container_id: &str) -> Self {
        let message =
            events::TaskPaused { container_id: container_id.to_owned(), ..Default::default() };
        Self::new(topics::TASK_PAUSED_EVENT_TOPIC, "TaskPaused", &message)
    }

    /// The event `/tasks/resumed`: the processes of the container run again.
    #[must_use]
    pub fn resumed(container_id: &str) -> Self {
        let message =
            events::TaskResumed { container_id: container_id.to_owned(), ..Default::default() };
        Self::new(topics::TASK_RESUMED_EVENT_TOPIC, "TaskResumed", &message)
    }

    /// The event `/tasks/delete`, with the pid and the exit of init. Both are `None` if init never
    /// existed; `exit` is also `None` if init never ran.
    #[must_use]
    pub fn delete(container_id: &str, pid: Option<i32>, exit: Option<Exit>) -> Self {
        let message = events::TaskDelete {
            container_id: container_id.to_owned(),
            pid: pid.map_or(0, number),
            exit_status: exit.map_or(0, |exit| exit.status()),
            exited_at: exit.map(|exit| timestamp(exit.timestamp)).into(),
            ..Default::default()
        };
        Self::new(topics::TASK_DELETE_EVENT_TOPIC, "TaskDelete", &message)
    }

    /// The topic on containerd's event bus.
    #[must_use]
    pub fn topic(&self) -> &'static str {
        self.topic
    }

    pub(super) fn into_message(self) -> Any {
        self.message
    }

    /// `name` is the name of the message's type. The name is not read from the message, because
    /// reading it would build the descriptors of the whole proto file, about 300 kB that are never
    /// freed.
    fn new(topic: &'static str, name: &str, message: &impl Message) -> Self {
        // The full name of the message without a prefix, as Go's package `typeurl` writes it.
        let type_url = format!("containerd.events.{name}");
        // Fails only on a missing required field, which proto3 does not have.
        let value = message.write_to_bytes().unwrap_or_default();
        Self { topic, message: Any { type_url, value, ..Default::default() } }
    }
}

fn number(pid: i32) -> u32 {
    u32::try_from(pid).unwrap_or_default()
}

/// Converts a protobuf timestamp to nanoseconds since 1970. A time before 1970 becomes 0.
pub(super) fn nanoseconds(time: &Timestamp) -> u64 {
    let (seconds, nanos) =
        (u64::try_from(time.seconds).unwrap_or(0), u64::try_from(time.nanos).unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Converts a time to a protobuf timestamp. A time before 1970 becomes the start of 1970.
#[must_use]
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since_epoch.subsec_nanos()).unwrap_or_default(),
        ..Default::default()
    }
}
