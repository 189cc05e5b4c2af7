//! What `ctr events` prints, as it comes.

use std::time::Duration;

use serde_json::Value;

use super::{Listener, Program};

/// One event of containerd's bus.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) namespace: String,
    /// `/tasks/exit`…
    pub(crate) topic: String,
    pub(crate) body: Value,
}

/// `ctr events`.
pub(crate) type Events = Listener<Event>;

impl Event {
    /// The container that it is about.
    pub(crate) fn container(&self) -> &str {
        self.body["container_id"].as_str().unwrap_or_default()
    }

    /// The process that an exit is about: the container's id for its init, or an exec id.
    pub(crate) fn process(&self) -> &str {
        self.body["id"].as_str().or(self.body["exec_id"].as_str()).unwrap_or_default()
    }

    /// Its number of that name; protobuf's JSON leaves zeros out.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.body[name].as_u64().unwrap_or_default()
    }

    /// Whether it is about a task of this container.
    pub(crate) fn is(&self, topic: &str, container: &str) -> bool {
        self.topic == topic && self.container() == container
    }

    /// The last word of the topic, with the exec id where there is one: `exit`, `exec-added e1`.
    pub(crate) fn short(&self) -> String {
        let topic = self.topic.rsplit('/').next().unwrap_or_default();
        match self.process() {
            "" => topic.to_owned(),
            process if process == self.container() => topic.to_owned(),
            process => format!("{topic} {process}"),
        }
    }

    /// `TIME ZONE NAMESPACE TOPIC JSON`: the JSON is the last word, for keys and values that are
    /// ids and numbers, and begins at the first brace in any case.
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

    /// The tasks' events of a container so far, each as [`Event::short`].
    pub(crate) fn of(&self, container: &str) -> Vec<String> {
        let events = self.all();
        let ours = events
            .iter()
            .filter(|event| event.topic.starts_with("/tasks/") && event.container() == container);
        ours.map(Event::short).collect()
    }

    /// Waits for the `exit` or `delete`… of a container's task.
    pub(crate) fn wait_topic(&self, topic: &str, container: &str) -> Event {
        let wanted = |event: &Event| {
            event.is(topic, container) && [container, ""].contains(&event.process())
        };
        self.wait(Duration::from_secs(10), &format!("{topic} of {container}"), wanted)
    }
}
