//! Reads the output of `ctr events` while it runs.

use std::time::Duration;

use serde_json::Value;

use super::{Listener, Program};

/// One event from containerd's bus.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) namespace: String,
    /// The topic, such as `/tasks/exit`.
    pub(crate) topic: String,
    pub(crate) body: Value,
}

/// A running `ctr events`.
pub(crate) type Events = Listener<Event>;

impl Event {
    /// The id of the container that it is about, or an empty string.
    pub(crate) fn container(&self) -> &str {
        self.body["container_id"].as_str().unwrap_or_default()
    }

    /// The process that it is about: the container's id for init, otherwise an exec id; an empty
    /// string if there is none.
    pub(crate) fn process(&self) -> &str {
        self.body["id"].as_str().or(self.body["exec_id"].as_str()).unwrap_or_default()
    }

    /// A numeric field, or 0: protobuf's JSON omits zeros.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.body[name].as_u64().unwrap_or_default()
    }

    /// Whether it has this topic and is about this container.
    pub(crate) fn is(&self, topic: &str, container: &str) -> bool {
        self.topic == topic && self.container() == container
    }

    /// The last part of the topic, followed by the exec id if there is one: `exit`, `exec-added
    /// e1`.
    pub(crate) fn short(&self) -> String {
        let topic = self.topic.rsplit('/').next().unwrap_or_default();
        match self.process() {
            "" => topic.to_owned(),
            process if process == self.container() => topic.to_owned(),
            process => format!("{topic} {process}"),
        }
    }

    /// Parses `TIME ZONE NAMESPACE TOPIC JSON`. The JSON begins at the first brace.
    fn parse(line: &str) -> Option<Self> {
        let (head, _) = line.split_once('{')?;
        let body = serde_json::from_str(line.get(head.len()..)?).ok()?;
        let mut words = head.split_whitespace().rev();
        let (topic, namespace) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some(Self { namespace, topic, body })
    }
}

impl Events {
    pub(super) fn of_bus(client: Program) -> Self {
        Self::listen(client, Event::parse)
    }

    /// The task events of a container so far, each as [`Event::short`].
    pub(crate) fn of(&self, container: &str) -> Vec<String> {
        let events = self.all();
        let ours = events
            .iter()
            .filter(|event| event.topic.starts_with("/tasks/") && event.container() == container);
        ours.map(Event::short).collect()
    }

    /// Waits for the `exit`, `delete` or another event of a container's init.
    pub(crate) fn wait_topic(&self, topic: &str, container: &str) -> Event {
        let wanted = |event: &Event| {
            event.is(topic, container) && [container, ""].contains(&event.process())
        };
        self.wait(Duration::from_secs(10), &format!("{topic} of {container}"), wanted)
    }
}
