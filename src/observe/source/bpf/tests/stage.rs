//! A bpffs, cgroups and processes for one test, removed after it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use libbpf_rs::MapHandle;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::{
    model::Ended,
    observe::{
        record::{Record, TargetId, What},
        source::{Source as _, Target, bpf},
    },
};

/// How long a test waits for an event.
const DEADLINE: Duration = Duration::from_secs(60);

/// A bpffs for one test, so that the pins of the node are not touched.
pub(super) struct Node {
    directory: tempfile::TempDir,
}

impl Node {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        mount(Some("bpf"), directory.path(), Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        Self { directory }
    }

    pub(super) fn bpffs(&self) -> &Path {
        self.directory.path()
    }

    /// The map with the number of entries that the targets share.
    pub(super) fn entries(&self) -> MapHandle {
        let pin = self.bpffs().join(format!("lookout/v{}/entries", bpf::ABI));
        MapHandle::from_pinned_path(pin).unwrap()
    }

    pub(super) fn source(&self, ring_bytes: u32) -> bpf::BpfSource {
        let mut loader = || bpf::load(self.bpffs()).map_err(io::Error::other);
        bpf::BpfSource::open(self.bpffs(), ring_bytes, &mut loader).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        umount2(self.directory.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

/// A cgroup of the unified hierarchy, removed when this is dropped.
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

    /// A shell that enters the cgroup and then runs `script`. Its own fork and exec happen outside
    /// the cgroup, so they are not recorded.
    pub(super) fn shell(&self, script: &str, args: &[&std::ffi::OsStr]) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            // $0 is the cgroup; 99 means that the shell could not enter it.
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
        // A process that has ended is in its cgroup until it is reaped.
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

/// The records of one target that a source has delivered.
#[derive(Default)]
pub(super) struct Received {
    /// The pid of each process record, and what happened.
    pub(super) whats: Vec<(i32, What)>,
    /// The losses that were reported.
    pub(super) lost: u64,
    /// Records of other targets, and of no process.
    pub(super) others: usize,
}

impl Received {
    /// Reads until the delivered and lost records are as many as the kernel has counted.
    pub(super) fn of(source: &mut bpf::BpfSource, id: TargetId) -> Self {
        let mut received = Self::default();
        let end = Instant::now() + DEADLINE;
        loop {
            received.drain(source, id);
            let counts = source.counts(id).unwrap();
            if counts.seen == received.whats.len() as u64 + received.lost {
                assert_eq!(counts.lost, received.lost);
                return received;
            }
            assert!(
                Instant::now() < end,
                "{counts:?}, received {} and lost {}",
                received.whats.len(),
                received.lost
            );
        }
    }

    /// Reads until `is_enough`.
    pub(super) fn until(
        source: &mut bpf::BpfSource,
        id: TargetId,
        is_enough: impl Fn(&Self) -> bool,
    ) -> Self {
        let mut received = Self::default();
        let end = Instant::now() + DEADLINE;
        while !is_enough(&received) {
            assert!(Instant::now() < end, "not enough: {:?}", received.whats);
            received.drain(source, id);
        }
        received
    }

    /// Reads all records that are in the ring now.
    pub(super) fn drain(&mut self, source: &mut bpf::BpfSource, id: TargetId) {
        while source.read(64, &mut |record| self.take(record, id)).unwrap() {}
    }

    pub(super) fn take(&mut self, record: Record, id: TargetId) {
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
