//! The ten shortages: how a shim is made to lack something, and the proof that it does.
//!
//! Each concerns the shim of its cell alone, and where that makes sense what the shim starts; never
//! the machine, and never the daemon.

use std::{
    fs,
    io::Read as _,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use super::{
    disk::Frozen,
    scene::{NoRuntime, Scene},
};
use crate::harness::{Process, containerd::is_unified, deadline};

/// What is lacking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortage {
    /// The pids cgroup of the shim is full.
    NoThread,
    /// The shim has as many descriptors as its soft limit allows.
    NoDescriptor,
    /// No file can be made in the bundle, in the runtime's state, and beside the log.
    NoInode,
    /// Nothing can be written there.
    DiskFull,
    /// What would change something there waits, in the kernel.
    DiskHangs,
    /// The memory cgroup of the shim is at its limit: the kernel kills what asks for more.
    MemoryLimit,
    /// The runtime starts and does nothing.
    RuntimeHangs,
    /// There is no runtime in PATH.
    RuntimeGone,
    /// containerd was killed.
    ContainerdAway,
    /// The client has closed its connection before the answer.
    ClientGone,
}

/// A shortage that lasts until it is [lifted](Self::lift), or this is dropped.
pub(super) enum Applied {
    Cgroup(Limited),
    Descriptors { shim: Process, before: String, connections: Vec<UnixStream> },
    Full { inodes: bool },
    Frozen(Frozen),
    Hanging(PathBuf),
    Gone(NoRuntime),
    Away,
    Nothing,
}

impl Shortage {
    pub(super) const ALL: [Self; 10] = [
        Self::NoThread,
        Self::NoDescriptor,
        Self::NoInode,
        Self::DiskFull,
        Self::DiskHangs,
        Self::MemoryLimit,
        Self::RuntimeHangs,
        Self::RuntimeGone,
        Self::ContainerdAway,
        Self::ClientGone,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NoThread => "no-thread",
            Self::NoDescriptor => "no-descriptor",
            Self::NoInode => "no-inode",
            Self::DiskFull => "disk-full",
            Self::DiskHangs => "disk-hangs",
            Self::MemoryLimit => "memory-limit",
            Self::RuntimeHangs => "runtime-hangs",
            Self::RuntimeGone => "runtime-gone",
            Self::ContainerdAway => "containerd-away",
            Self::ClientGone => "client-gone",
        }
    }

    /// Whether the cell needs a disk of its own, and whether that must be ext4.
    pub(super) fn disk(self) -> Option<bool> {
        match self {
            Self::NoInode | Self::DiskFull => Some(false),
            Self::DiskHangs => Some(true),
            _ => None,
        }
    }

    /// Makes the shim lack it.
    pub(super) fn apply(self, scene: &mut Scene) -> Applied {
        match self {
            Self::NoThread => Applied::Cgroup(Limited::pids(scene.shim)),
            Self::MemoryLimit => Applied::Cgroup(Limited::memory(scene.shim)),
            Self::NoDescriptor => use_all_descriptors(scene),
            Self::NoInode | Self::DiskFull => {
                let inodes = self == Self::NoInode;
                scene.disk.as_ref().expect("it was mounted").fill(inodes);
                Applied::Full { inodes }
            }
            Self::DiskHangs => {
                Applied::Frozen(scene.disk.as_ref().expect("it was mounted").freeze())
            }
            Self::RuntimeHangs => {
                let flag = scene.node.path("hang");
                fs::write(&flag, "").expect("our directory is writable");
                Applied::Hanging(flag)
            }
            Self::RuntimeGone => Applied::Gone(NoRuntime::take(&scene.node)),
            Self::ContainerdAway => {
                scene.node.kill_9();
                scene.events = None;
                Applied::Away
            }
            Self::ClientGone => Applied::Nothing,
        }
    }
}

impl Applied {
    /// What failed in the way of this shortage; `None` if nothing is lacking.
    pub(super) fn prove(&self, scene: &Scene) -> Option<String> {
        match self {
            Self::Cgroup(limited) => limited.prove(),
            Self::Descriptors { shim, .. } => {
                let open = shim.descriptors();
                let limit = soft_limit(*shim)?;
                // The kernel gives the lowest free number, if that is below the limit.
                let free = (0..limit).find(|number| !open.contains_key(number));
                free.is_none().then(|| format!("open: {limit} of {limit} descriptors used"))
            }
            Self::Full { inodes } => scene.disk.as_ref()?.refuses(*inodes),
            Self::Frozen(_) => scene.disk.as_ref()?.hangs(),
            Self::Hanging(_) => {
                let mut call = runtime(scene).spawn().ok()?;
                std::thread::sleep(Duration::from_millis(100));
                let hangs = matches!(call.try_wait(), Ok(None));
                let _ = call.kill();
                let _ = call.wait();
                hangs.then(|| "runc --version: no end in 100 ms".to_owned())
            }
            Self::Gone(_) => {
                let shell = "command -v runc".to_owned();
                let mut search = Command::new("sh");
                search.args(["-c", &shell]).env("PATH", scene.node.search_path());
                let found = search.output().ok()?.status.success();
                (!found).then(|| "exec runc: ENOENT".to_owned())
            }
            Self::Away => {
                let socket = scene.node.path("containerd.sock");
                let refused = UnixStream::connect(socket).err()?;
                Some(format!("connect: {:?}", refused.kind()))
            }
            // The operation proves that it was unanswered.
            Self::Nothing => None,
        }
    }

    /// Whether it has ended by itself.
    pub(super) fn ended_early(&mut self) -> bool {
        match self {
            Self::Cgroup(limited) => limited.ended_early(),
            _ => false,
        }
    }

    /// A script that gives a process which runs it the same shortage; `None` if the process has it
    /// without that.
    pub(super) fn inherited(&self) -> Option<String> {
        match self {
            Self::Cgroup(limited) => Some(format!("echo $$ >{}/cgroup.procs", limited.path())),
            _ => None,
        }
    }

    /// Ends the shortage.
    pub(super) fn lift(self, scene: &mut Scene) {
        match self {
            Self::Full { .. } => scene.disk.as_ref().expect("it was mounted").empty(),
            Self::Frozen(frozen) => {
                drop(frozen);
                scene.disk.as_ref().expect("it was mounted").empty();
            }
            Self::Away => {
                let serves = scene.node.serves_again_within(Duration::from_secs(5));
                assert!(serves, "containerd does not come back");
                scene.subscribe();
            }
            Self::Hanging(flag) => fs::remove_file(flag).expect("our own file"),
            // Its drop ends the limit and removes the cgroup.
            Self::Cgroup(limited) => drop(limited),
            Self::Descriptors { shim, before, connections } => {
                drop(connections);
                set_soft_limit(shim, &before);
            }
            Self::Gone(taken) => drop(taken),
            Self::Nothing => {}
        }
    }
}

fn runtime(scene: &Scene) -> Command {
    let mut command = Command::new(scene.node.path("bin/runc"));
    command.arg("--version").stdout(Stdio::null());
    command
}

// ── descriptors ──

/// Lowers the soft limit to what the shim has, and uses the gaps by connections.
fn use_all_descriptors(scene: &Scene) -> Applied {
    let shim = scene.shim;
    let before = soft_limit(shim).expect("it lives").to_string();
    let limit = shim.descriptors().keys().max().expect("it has some") + 1;
    set_soft_limit(shim, &limit.to_string());
    let path = scene.address.trim_start_matches("unix://");
    let used = || i32::try_from(shim.descriptors().len()).unwrap_or(0);
    let mut connections = Vec::new();
    // Repeated, because the shim may close a descriptor meanwhile.
    deadline::within(Duration::from_secs(5), "the last descriptor", || {
        let missing = used()..limit;
        connections.extend(missing.map(|_| UnixStream::connect(path).expect("it listens")));
        scene.wait(Duration::from_millis(500), |_| used() >= limit).is_some()
    });
    Applied::Descriptors { shim, before, connections }
}

fn soft_limit(process: Process) -> Option<i32> {
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.pid)).ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

fn set_soft_limit(process: Process, limit: &str) {
    let arguments = [format!("--pid={}", process.pid), format!("--nofile={limit}:")];
    let _ = Command::new("prlimit").args(arguments).status();
}

// ── cgroups ──

/// A cgroup with the shim in it, with a limit that is reached.
pub(super) struct Limited {
    path: PathBuf,
    limit: &'static str,
    unlimited: &'static str,
    /// Processes that use most of the memory.
    hogs: Vec<Child>,
}

/// The memory of each of two such processes: more than a shim has, as the kernel kills the largest,
/// and less than what it adds for a runtime with the highest score, which is the limit.
const HOG_MIB: u64 = 24;

/// What the shim and its children can have beside it: less than a runtime needs.
const REST: u64 = 1 << 20;

impl Limited {
    fn pids(shim: Process) -> Self {
        let limited = Self::new(shim, "pids", "pids.max", "max");
        limited.write("pids.max", "1");
        limited
    }

    fn memory(shim: Process) -> Self {
        let mut limited = match is_unified() {
            true => Self::new(shim, "memory", "memory.max", "max"),
            false => Self::new(shim, "memory", "memory.limit_in_bytes", "-1"),
        };
        let path = limited.path();
        let script = format!(
            "echo $$ >{path}/cgroup.procs; exec perl -e '$|=1; $x=\"x\"x{}; print 1; \
                              sleep 60'",
            HOG_MIB << 20
        );
        for _ in 0..2 {
            let mut hog = Command::new("sh");
            let mut hog = hog.args(["-c", &script]).stdout(Stdio::piped()).spawn().expect("perl");
            hog.stdout.take().expect("piped").read_exact(&mut [0]).expect("it has the memory");
            limited.hogs.push(hog);
        }
        // Without caches, which the kernel would give back first. It fails if there are too few.
        let (reclaim, usage) = match is_unified() {
            true => ("memory.reclaim", "memory.current"),
            false => ("memory.force_empty", "memory.usage_in_bytes"),
        };
        let _ = fs::write(limited.path.join(reclaim), "8388608");
        let usage = fs::read_to_string(limited.path.join(usage));
        let usage: u64 = usage.expect("our own cgroup").trim().parse().expect("a number");
        limited.write(limited.limit, &(usage + REST).to_string());
        limited
    }

    fn new(shim: Process, controller: &str, limit: &'static str, unlimited: &'static str) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("lookout-exhaust-{}-{number}", std::process::id());
        let mut root = PathBuf::from("/sys/fs/cgroup");
        match is_unified() {
            true => fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"))
                .expect("the root has the controller"),
            false => root.push(controller),
        }
        let path = root.join(name);
        fs::create_dir(&path).expect("the hierarchy is mounted");
        let limited = Self { path, limit, unlimited, hogs: Vec::new() };
        limited.write("cgroup.procs", &shim.pid.to_string());
        limited
    }

    fn path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    fn write(&self, file: &str, value: &str) {
        fs::write(self.path.join(file), value).expect("our own cgroup");
    }

    fn prove(&self) -> Option<String> {
        let probe = |script: &str| {
            let join = format!(
                "echo 1000 >/proc/self/oom_score_adj; echo $$ >{}/cgroup.procs; {script}",
                self.path()
            );
            let output = Command::new("sh").args(["-c", &join]).output();
            output.expect("sh is installed")
        };
        if self.limit == "pids.max" {
            let tried = probe("/bin/true; exit 0");
            let refused = String::from_utf8_lossy(&tried.stderr).contains("Cannot fork");
            return refused.then(|| "fork: EAGAIN".to_owned());
        }
        let allocates = "exec dd if=/dev/zero of=/dev/null bs=8M count=1";
        use std::os::unix::process::ExitStatusExt as _;
        let killed = probe(allocates).status.signal() == Some(9);
        killed.then(|| "write to 8 MiB: killed by the OOM killer".to_owned())
    }

    /// Whether the kernel had to kill a hog for the shim's own needs, which ended the shortage.
    pub(super) fn ended_early(&mut self) -> bool {
        self.hogs.iter_mut().any(|hog| !matches!(hog.try_wait(), Ok(None)))
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = fs::write(self.path.join(self.limit), self.unlimited);
        for mut hog in std::mem::take(&mut self.hogs) {
            let _ = hog.kill();
            let _ = hog.wait();
        }
        let root = self.path.parent().expect("it has a hierarchy").join("cgroup.procs");
        deadline::until("the removal of the cgroup", || {
            let members = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
            for member in members.lines() {
                let _ = fs::write(&root, member);
            }
            fs::remove_dir(&self.path).is_ok()
        });
    }
}
