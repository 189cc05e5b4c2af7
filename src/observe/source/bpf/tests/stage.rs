//! A bpffs and cgroups of a test's own, gone after it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::{
    model::Ended,
    observe::{
        record::{Record, TargetId, What},
        source::{Source as _, Target, bpf},
    },
};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// A bpffs of one's own, so that the node's pins are left alone.
pub(super) struct Node {
    folder: tempfile::TempDir,
}

impl Node {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        Self { folder }
    }

    pub(super) fn bpffs(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn source(&self, ring_bytes: u32) -> bpf::BpfSource {
        let mut loader = || bpf::load(self.bpffs()).map_err(io::Error::other);
        bpf::BpfSource::open(self.bpffs(), ring_bytes, &mut loader).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        umount2(self.folder.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

/// A cgroup of the unified hierarchy.
pub(super) struct Cgroup {
    pub(super) path: PathBuf,
}

impl Cgroup {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mounts = procfs::process::Process::myself().unwrap().mountinfo().unwrap();
        let root = mounts
            .into_iter()
            .find(|mount| mount.fs_type == "cgroup2")
            .expect("cgroup v2")
            .mount_point;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("lookout-test-{}-{count}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self { path }
    }

    pub(super) fn below(&self, name: &str) -> Self {
        let path = self.path.join(name);
        fs::create_dir(&path).unwrap();
        Self { path }
    }

    pub(super) fn id(&self) -> TargetId {
        TargetId(fs::metadata(&self.path).unwrap().ino())
    }

    pub(super) fn target(&self) -> Target {
        Target::Cgroup { path: self.path.clone(), pid_namespace: None }
    }

    /// A shell in the cgroup, which it enters by itself: its own fork and exec are not in it.
    pub(super) fn shell(&self, script: &str, args: &[&std::ffi::OsStr]) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &format!("echo $$ >\"$0\"/cgroup.procs || exit 99; {script}")])
            .arg(&self.path)
            .args(args);
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let end = Instant::now() + DEADLINE;
        // What has ended still counts until it is reaped.
        while fs::remove_dir(&self.path).is_err() && Instant::now() < end {
            std::thread::yield_now();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no reaper")]
pub(super) fn run(command: &mut Command) -> ExitStatus {
    command.status().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a test has no reaper")]
pub(super) fn spawn(command: &mut Command) -> std::process::Child {
    command.spawn().unwrap()
}

/// Everything that a source tells of a target until it has told as much as the kernel has seen.
#[derive(Default)]
pub(super) struct Emission {
    pub(super) whats: Vec<(i32, What)>,
    pub(super) lost: u64,
    pub(super) others: usize,
}

impl Emission {
    pub(super) fn of(source: &mut bpf::BpfSource, id: TargetId) -> Self {
        let mut told = Self::default();
        let end = Instant::now() + DEADLINE;
        loop {
            told.drain(source, id);
            let counts = source.counts(id).unwrap();
            if counts.seen == told.whats.len() as u64 + told.lost {
                assert_eq!(counts.lost, told.lost);
                return told;
            }
            assert!(
                Instant::now() < end,
                "{counts:?}, told {} and lost {}",
                told.whats.len(),
                told.lost
            );
        }
    }

    /// Reads what there is.
    pub(super) fn drain(&mut self, source: &mut bpf::BpfSource, id: TargetId) {
        while source.read(64, &mut |record| self.take(record, id)).unwrap() {}
    }

    fn take(&mut self, record: Record, id: TargetId) {
        match record {
            Record::Process { target, key, what, .. } if target == id => {
                self.whats.push((key.pid, what))
            }
            Record::Lost { target: Some(target), count: Some(count), .. } if target == id => {
                self.lost += count
            }
            _ => self.others += 1,
        }
    }

    pub(super) fn forks(&self) -> usize {
        self.whats.iter().filter(|(_, what)| matches!(what, What::Fork(_))).count()
    }

    /// The arguments of each exec, by pid.
    pub(super) fn execs(&self) -> Vec<(i32, Vec<Vec<u8>>)> {
        let args = |what: &What| match what {
            What::Exec { image, .. } => {
                Some(image.args.as_ref().unwrap().iter().map(<[u8]>::to_vec).collect())
            }
            _ => None,
        };
        self.whats.iter().filter_map(|(pid, what)| args(what).map(|args| (*pid, args))).collect()
    }

    pub(super) fn exits(&self) -> Vec<(i32, Ended)> {
        let ended = |what: &What| match what {
            What::Exit { wait_status, .. } => Some(Ended::from_wait_status(wait_status.unwrap())),
            _ => None,
        };
        self.whats.iter().filter_map(|(pid, what)| ended(what).map(|ended| (*pid, ended))).collect()
    }
}
