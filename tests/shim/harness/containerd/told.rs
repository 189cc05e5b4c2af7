//! What `lookout events` tells of the containers of a daemon.

use std::{fs, time::Duration};

use serde_json::Value;

use super::{Containerd, Listener};
use crate::harness::{Process, deadline};

/// One record of the stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told(pub(crate) Value);

/// A subscriber.
pub(crate) type Watching = Listener<Told>;

/// How long a record may take from the kernel to a subscriber beside a busy machine.
const TOLD: Duration = Duration::from_secs(10);

impl Told {
    pub(crate) fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok().map(Self)
    }

    /// `process.start`…
    pub(crate) fn kind(&self) -> &str {
        self.0["type"].as_str().unwrap_or_default()
    }

    /// The value at a path such as `/process/pid`.
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

    /// Whether it is a start or an exec of a program with these arguments.
    pub(crate) fn runs(&self, args: &[&str]) -> bool {
        ["process.start", "process.exec"].contains(&self.kind()) && self.args() == args
    }

    /// Whether it is of this type and about the process of that record.
    pub(crate) fn is(&self, kind: &str, of: &Told) -> bool {
        self.kind() == kind && self.at("/process/entity_id") == of.at("/process/entity_id")
    }
}

impl Watching {
    /// Waits for a start or an exec of these arguments.
    #[track_caller]
    pub(crate) fn wait_run(&self, args: &[&str]) -> Told {
        self.wait(TOLD, &format!("a start of {args:?}"), |told| told.runs(args))
    }

    /// Waits for the record of this type about the process of that one.
    #[track_caller]
    pub(crate) fn wait_of(&self, kind: &str, of: &Told) -> Told {
        self.wait(TOLD, &format!("{kind} of {of:?}"), |told| told.is(kind, of))
    }

    /// Waits for the closing record of a container.
    #[track_caller]
    pub(crate) fn wait_close(&self, container: &str) -> Told {
        let wanted =
            |told: &Told| told.kind() == "container.close" && told.container() == container;
        self.wait(TOLD, &format!("container.close of {container}"), wanted)
    }
}

impl Containerd {
    /// Follows all containers from their first record on. Returns when it would notice the first.
    pub(crate) fn watching(&self) -> Watching {
        fs::create_dir_all(self.path("lookout/shims")).expect("our folder is writable");
        let watching =
            Listener::listen(self.lookout(&["events", "-f", "-o", "jsonl"]), Told::parse);
        let client = Process::new(watching.pid());
        deadline::until("the subscriber to look for shims", || {
            // In a pid namespace it is the child of who entered that.
            let processes = client.children().into_iter().chain([client]);
            let folders = processes.map(|process| format!("/proc/{}/fdinfo", process.pid));
            let descriptors =
                folders.filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
            let mut texts = descriptors.filter_map(|entry| fs::read_to_string(entry.path()).ok());
            // The folder and its `shims`.
            texts
                .any(|text| text.lines().filter(|line| line.starts_with("inotify wd")).count() == 2)
        });
        watching
    }
}
