//! The shims of one daemon: their processes, from `/proc`, and connections to them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{Containerd, leftovers};
use crate::harness::{Process, Task};

impl Containerd {
    /// The socket files of the shims that exist now.
    pub(crate) fn sockets(&self) -> Vec<PathBuf> {
        leftovers::entries(Path::new("/run/containerd/s"))
    }

    /// The running shims of this daemon, by the id that they were started for.
    pub(crate) fn shims(&self) -> BTreeMap<String, Process> {
        all(&self.socket())
    }

    /// The shim that was started for `id`.
    pub(crate) fn shim(&self, id: &str) -> Process {
        self.shims().remove(id).unwrap_or_else(|| panic!("no shim for {id}: {:?}", self.shims()))
    }

    /// A connection to the Task service of the shim of `id`, as containerd opens it.
    pub(crate) fn task_service(&self, id: &str) -> Task {
        let (address, version) = self.task_address(id);
        Task::connect(&address, version).expect("the shim listens").of_namespace(&self.namespace)
    }

    /// The address of the shim of `id` and the version of its Task service, from the file in which
    /// the shim or this version of containerd has written it.
    pub(crate) fn task_address(&self, id: &str) -> (String, i64) {
        let bundle = self.bundle(id);
        if let Ok(address) = fs::read_to_string(bundle.join("address")) {
            return (address, 2);
        }
        let text = fs::read(bundle.join("bootstrap.json")).expect("containerd writes it");
        let answer: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let address = answer["address"].as_str().expect("an address").to_owned();
        (address, answer["version"].as_i64().expect("a version"))
    }

    /// containerd's own shim, of the daemon's version.
    pub(crate) fn stock_shim(&self) -> PathBuf {
        self.tool("containerd-shim-runc-v2")
    }
}

/// The resources of a shim, to be compared before and after a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) threads: usize,
    pub(crate) children: usize,
    /// Its descriptors by kind, with a count for each: `socket`, `/dev/ptmx`…
    pub(crate) descriptors: BTreeMap<String, usize>,
}

impl Holdings {
    /// Reads the resources of this process from `/proc`.
    pub(crate) fn of(shim: Process) -> Self {
        let mut descriptors = BTreeMap::new();
        for (_, target) in shim.descriptors() {
            // `socket:[123]` and `pipe:[123]` differ only in the inode number.
            let kind = target.split(":[").next().unwrap_or_default().to_owned();
            *descriptors.entry(kind).or_default() += 1;
        }
        let threads =
            fs::read_dir(format!("/proc/{}/task", shim.pid)).into_iter().flatten().count();
        Self { threads, children: shim.children().len(), descriptors }
    }
}

/// The running shims of the daemon at this socket, by the id that they were started for.
fn all(socket: &str) -> BTreeMap<String, Process> {
    let shims = Process::all().into_iter().filter_map(|process| {
        let words = process.command_line();
        let after = |flag: &str| words.iter().skip_while(|word| *word != flag).nth(1);
        let serves =
            words.first()?.ends_with("containerd-shim-lookout-v2") && after("-address")? == socket;
        let is_verb = words.iter().any(|word| word == "start" || word == "delete");
        (serves && !is_verb).then(|| Some((after("-id")?.clone(), process)))?
    });
    shims.collect()
}
