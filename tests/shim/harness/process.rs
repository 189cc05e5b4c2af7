//! A process, as `/proc` shows it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use nix::{sys::signal, unistd::Pid};

/// A process by its pid. It may have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
}

impl Process {
    pub(crate) fn new(pid: impl TryInto<i32>) -> Self {
        Self { pid: pid.try_into().unwrap_or(0) }
    }

    /// Every process of the machine.
    pub(crate) fn all() -> Vec<Self> {
        let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .map(|pid| Self { pid })
            .collect()
    }

    /// All processes with `marker` in their environment.
    pub(crate) fn marked(marker: &str) -> Vec<Self> {
        Self::all()
            .into_iter()
            .filter(|process| process.environ().iter().any(|entry| entry == marker))
            .collect()
    }

    /// These processes and all their descendants.
    pub(crate) fn with_descendants(mut found: Vec<Self>) -> Vec<Self> {
        let others: Vec<_> =
            Self::all().into_iter().map(|process| (process, process.parent())).collect();
        let mut next = 0;
        while let Some(parent) = found.get(next).copied() {
            let is_child = |other: &&(Self, Option<i32>)| {
                other.1 == Some(parent.pid) && !found.contains(&other.0)
            };
            let children: Vec<_> = others.iter().filter(is_child).map(|other| other.0).collect();
            found.extend(children);
            next += 1;
        }
        found
    }

    /// Whether it exists and is not a zombie.
    pub(crate) fn lives(self) -> bool {
        self.state().is_some_and(|state| state != 'Z' && state != 'X')
    }

    /// Its state (R, S, D, T, Z…); `None` if it does not exist.
    pub(crate) fn state(self) -> Option<char> {
        self.stat(2)?.chars().next()
    }

    pub(crate) fn parent(self) -> Option<i32> {
        self.stat(3)?.parse().ok()
    }

    pub(crate) fn group(self) -> Option<i32> {
        self.stat(4)?.parse().ok()
    }

    pub(crate) fn session(self) -> Option<i32> {
        self.stat(5)?.parse().ok()
    }

    /// User and system time, in clock ticks (100 a second).
    pub(crate) fn cpu_ticks(self) -> u64 {
        let ticks =
            |field| self.stat(field).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
        ticks(13) + ticks(14)
    }

    pub(crate) fn children(self) -> Vec<Self> {
        Self::all().into_iter().filter(|process| process.parent() == Some(self.pid)).collect()
    }

    pub(crate) fn environ(self) -> Vec<String> {
        let bytes = fs::read(self.file("environ")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).split_terminator('\0').map(str::to_owned).collect()
    }

    pub(crate) fn command_line(self) -> Vec<String> {
        let bytes = fs::read(self.file("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).split_terminator('\0').map(str::to_owned).collect()
    }

    pub(crate) fn cwd(self) -> Option<PathBuf> {
        fs::read_link(self.file("cwd")).ok()
    }

    pub(crate) fn oom_score_adj(self) -> Option<i32> {
        fs::read_to_string(self.file("oom_score_adj")).ok()?.trim().parse().ok()
    }

    /// Each descriptor and its target; empty if the process does not exist. Only root may read
    /// those of a shim.
    #[track_caller]
    pub(crate) fn descriptors(self) -> BTreeMap<i32, String> {
        let entries = match fs::read_dir(self.file("fd")) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                panic!("root is missing: {error}")
            }
            entries => entries.into_iter().flatten().flatten(),
        };
        let describe = |path: &Path| {
            fs::read_link(path).ok().map(|target| target.to_string_lossy().into_owned())
        };
        entries
            .filter_map(|entry| {
                Some((entry.file_name().to_str()?.parse().ok()?, describe(&entry.path())?))
            })
            .collect()
    }

    pub(crate) fn resident_kib(self) -> u64 {
        let status = fs::read_to_string(self.file("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    }

    /// Sends a signal. Returns whether the process could receive it.
    pub(crate) fn signal(self, signal: signal::Signal) -> bool {
        self.pid > 1 && signal::kill(Pid::from_raw(self.pid), signal).is_ok()
    }

    pub(crate) fn kill(self) -> bool {
        self.signal(signal::Signal::SIGKILL)
    }

    fn file(self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join(name)
    }

    /// A field of `stat`, counted from 0. Fields are found behind the process name, which may
    /// contain any character.
    fn stat(self, field: usize) -> Option<String> {
        let stat = fs::read(self.file("stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        let (_, after_name) = stat.rsplit_once(')')?;
        after_name.split_whitespace().nth(field.checked_sub(2)?).map(str::to_owned)
    }
}
