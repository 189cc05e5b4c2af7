//! Reads the output of `lookout events` for the containers of a daemon.

use std::{fs, time::Duration};

use serde_json::Value;

use super::{Containerd, Listener};
use crate::harness::{Process, deadline};

/// One event of the stream, as JSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ObservedEvent(pub(crate) Value);

/// A running `lookout events -f`.
pub(crate) type Subscriber = Listener<ObservedEvent>;

/// The longest time until an event gets from the kernel to a subscriber on a busy machine.
const DELIVERY: Duration = Duration::from_secs(10);

impl ObservedEvent {
    /// Parses a line of JSON; `None` if it is none.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok().map(Self)
    }

    /// The event type, such as `process.start`.
    pub(crate) fn kind(&self) -> &str {
        self.0["type"].as_str().unwrap_or_default()
    }

    /// The value at a JSON pointer such as `/process/pid`; null if it is absent.
    pub(crate) fn at(&self, path: &str) -> &Value {
        self.0.pointer(path).unwrap_or(&Value::Null)
    }

    pub(crate) fn text(&self, path: &str) -> &str {
        self.at(path).as_str().unwrap_or_default()
    }

    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        self.at(path).as_u64()
    }

    pub(crate) fn args(&self) -> Vec<&str> {
        self.at("/process/command_args")
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    pub(crate) fn container(&self) -> &str {
        self.text("/container/id")
    }

    /// Whether it is a start or an exec with exactly these arguments.
    pub(crate) fn runs(&self, args: &[&str]) -> bool {
        ["process.start", "process.exec"].contains(&self.kind()) && self.args() == args
    }

    /// Whether it has this type and is about the same process as `of`.
    pub(crate) fn is(&self, kind: &str, of: &ObservedEvent) -> bool {
        self.kind() == kind && self.at("/process/entity_id") == of.at("/process/entity_id")
    }
}

impl Subscriber {
    /// Waits for a start or an exec with these arguments.
    #[track_caller]
    pub(crate) fn wait_run(&self, args: &[&str]) -> ObservedEvent {
        self.wait(DELIVERY, &format!("a start of {args:?}"), |event| event.runs(args))
    }

    /// Waits for the event of this type about the same process as `of`.
    #[track_caller]
    pub(crate) fn wait_of(&self, kind: &str, of: &ObservedEvent) -> ObservedEvent {
        self.wait(DELIVERY, &format!("{kind} of {of:?}"), |event| event.is(kind, of))
    }

    /// Waits for the `container.close` of a container.
    #[track_caller]
    pub(crate) fn wait_close(&self, container: &str) -> ObservedEvent {
        let wanted = |event: &ObservedEvent| {
            event.kind() == "container.close" && event.container() == container
        };
        self.wait(DELIVERY, &format!("container.close of {container}"), wanted)
    }
}

impl Containerd {
    /// The changes of ports from now on, by `lookout ports -w`. When this returns, it has printed
    /// the ports that are open, of which there must be one.
    pub(crate) fn watch_ports(&self) -> Subscriber {
        let client = self.lookout(&["ports", "-w", "-o", "jsonl"]);
        // The ports that are open at the beginning are rows of a list, and no events.
        let watcher = Listener::listen(client, ObservedEvent::parse);
        watcher.wait(DELIVERY, "an open port", |line| !line.at("/port").is_null());
        watcher
    }

    /// Subscribes to all containers from their first event on. When this returns, the subscriber
    /// watches for new shims, so it misses no event.
    pub(crate) fn subscribe(&self) -> Subscriber {
        self.subscribe_to(&[])
    }

    /// As [`subscribe`](Self::subscribe), with further arguments of `lookout events`.
    pub(crate) fn subscribe_to(&self, arguments: &[&str]) -> Subscriber {
        fs::create_dir_all(self.path("lookout/shims")).expect("our directory is writable");
        // Also the events of containers that run already.
        let all = ["events", "-f", "-o", "jsonl", "--since", "2020-01-01"];
        let command = [&all[..], arguments].concat();
        let subscriber = Listener::listen(self.lookout(&command), ObservedEvent::parse);
        let client = Process::new(subscriber.pid());
        deadline::until("the subscriber to watch for shims", || {
            // In a pid namespace, the subscriber is a child of the nsenter that entered it.
            let processes = client.children().into_iter().chain([client]);
            let directories = processes.map(|process| format!("/proc/{}/fdinfo", process.pid));
            let descriptors = directories
                .filter_map(|directory| fs::read_dir(directory).ok())
                .flatten()
                .flatten();
            let mut texts = descriptors.filter_map(|entry| fs::read_to_string(entry.path()).ok());
            // The client watches the directory and its `shims`.
            texts
                .any(|text| text.lines().filter(|line| line.starts_with("inotify wd")).count() == 2)
        });
        subscriber
    }
}
