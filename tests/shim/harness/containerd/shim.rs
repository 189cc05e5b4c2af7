//! Information about the shims of one daemon, from `/proc`.

use std::{collections::BTreeMap, path::PathBuf};

use super::Containerd;
use crate::harness::Process;

impl Containerd {
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
            std::fs::read_dir(format!("/proc/{}/task", shim.pid)).into_iter().flatten().count();
        Self { threads, children: shim.children().len(), descriptors }
    }
}

/// The running shims of the daemon at this socket, by the id that they were started for.
pub(super) fn all(socket: &str) -> BTreeMap<String, Process> {
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
