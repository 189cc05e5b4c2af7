//! What `ctr events` prints, as it comes.

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::Program;

/// One event of containerd's bus.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) namespace: String,
    /// `/tasks/exit`…
    pub(crate) topic: String,
    pub(crate) body: Value,
}

/// A client that listens in the background until it is dropped.
#[derive(Debug)]
pub(crate) struct Events {
    client: Child,
    heard: Arc<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    events: Mutex<Vec<Event>>,
    more: Condvar,
}

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
    pub(super) fn listen(client: Program) -> Self {
        let mut client = client.piped();
        let lines = BufReader::new(client.stdout.take().expect("piped")).lines();
        let heard = Arc::new(Heard::default());
        let told = heard.clone();
        thread::spawn(move || {
            for event in lines.map_while(Result::ok).filter_map(|line| Event::parse(&line)) {
                told.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                told.more.notify_all();
            }
        });
        Self { client, heard }
    }

    /// All so far.
    pub(crate) fn all(&self) -> Vec<Event> {
        self.heard.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first such one so far.
    pub(crate) fn find(&self, wanted: impl Fn(&Event) -> bool) -> Option<Event> {
        self.all().into_iter().find(wanted)
    }

    /// How many such ones so far.
    pub(crate) fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.all().iter().filter(|event| wanted(event)).count()
    }

    /// The tasks' events of a container so far, each as [`Event::short`].
    pub(crate) fn of(&self, container: &str) -> Vec<String> {
        let events = self.all();
        let ours = events.iter().filter(|event| event.topic.starts_with("/tasks/") && event.container() == container);
        ours.map(Event::short).collect()
    }

    /// Waits for the first such one. Panics when the time is over.
    pub(crate) fn wait(&self, within: Duration, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        self.wait_for(within, what, |events| events.iter().find(|event| wanted(event)).cloned())
    }

    /// Waits for the `exit` or `delete`… of a container's task.
    pub(crate) fn wait_topic(&self, topic: &str, container: &str) -> Event {
        let wanted = |event: &Event| event.is(topic, container) && [container, ""].contains(&event.process());
        self.wait(Duration::from_secs(10), &format!("{topic} of {container}"), wanted)
    }

    /// Waits until all so far have an answer to give. Panics when the time is over.
    pub(crate) fn wait_for<T>(&self, within: Duration, what: &str, ask: impl Fn(&[Event]) -> Option<T>) -> T {
        let end = Instant::now() + within;
        let mut events = self.heard.events.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(answer) = ask(&events) {
                return answer;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let heard = events.iter().map(|event| format!("{} {}", event.container(), event.short()));
                let heard = heard.collect::<Vec<_>>().join("\n  ");
                drop(events);
                panic!("waited {within:?} in vain for {what}; heard:\n  {heard}");
            }
            let waited = self.heard.more.wait_timeout(events, left);
            events = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
