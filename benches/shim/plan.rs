//! The parsed command line: how many samples, and which measurements.

use std::{path::PathBuf, time::Duration};

use crate::Result;

/// The measurements, by the names that `--only` takes.
pub(crate) const NAMES: [&str; 11] = [
    "start", "task", "exec", "stdout", "ctr", "memory", "pod", "watch", "others", "tools", "ports",
];

/// How many samples of each measurement are taken.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Whether to take fewer samples, and measure the pod with one containerd only.
    pub(crate) quick: bool,
    /// The file for all samples as JSON, if any.
    pub(crate) json: Option<PathBuf>,
    only: Vec<String>,
    /// Number of `start` verbs of each side.
    pub(crate) starts: usize,
    /// Number of containers from NewTask to Delete, of each side.
    pub(crate) tasks: usize,
    /// Number of single execs of each side.
    pub(crate) execs: usize,
    /// Number of storms of 100 execs of each side.
    pub(crate) storms: usize,
    /// Gibibytes of stdout of each side, as a number of samples.
    pub(crate) floods: usize,
    /// Number of `ctr run` of each side.
    pub(crate) runs: usize,
    /// Number of crowds of 20 shims of each kind.
    pub(crate) crowds: usize,
    /// Number of pairs of storms of processes, one of each in an observed container.
    pub(crate) watches: usize,
    /// Number of rounds of storms that need a setup: a crowd of containers, the programs, a tool.
    pub(crate) crews: usize,
    /// How long a crowd is idle before its memory is read.
    pub(crate) settle: Duration,
}

impl Plan {
    /// Parses the command line, without the program's name.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (mut quick, mut json, mut only) = (false, None, Vec::new());
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--quick" => quick = true,
                "--json" => json = Some(PathBuf::from(value()?)),
                "--only" => only.extend(value()?.split(',').map(str::to_owned)),
                // `cargo bench` passes this argument.
                "--bench" => {}
                _ => return Err(format!("unknown argument {argument:?}").into()),
            }
        }
        if let Some(unknown) = only.iter().find(|name| !NAMES.contains(&name.as_str())) {
            return Err(
                format!("no measurement {unknown:?}; there are {}", NAMES.join(", ")).into()
            );
        }
        Ok(Self { json, only, ..Self::sized(quick) })
    }

    fn sized(quick: bool) -> Self {
        let pick = |full: usize, small: usize| if quick { small } else { full };
        Self {
            quick,
            json: None,
            only: Vec::new(),
            starts: pick(20, 7),
            tasks: pick(25, 7),
            execs: pick(100, 15),
            storms: pick(5, 2),
            floods: pick(4, 2),
            runs: pick(20, 7),
            crowds: pick(2, 1),
            watches: pick(60, 8),
            crews: pick(6, 2),
            settle: Duration::from_secs(if quick { 2 } else { 3 }),
        }
    }

    /// Whether the measurement was requested.
    pub(crate) fn includes(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}
