//! What a container must not leave behind, and how a test's end removes it all the same.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::mount::MntFlags;

use super::Containerd;
use crate::harness::Process;

/// After the last task is deleted a shim has a second to go; beside a busy machine, two more.
const GONE: Duration = Duration::from_secs(3);

impl Containerd {
    /// Panics unless no process, mount, cgroup, socket, fifo, runtime state, bundle or temporary
    /// file is left of any container of this test.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        self.assert_left(|_| false);
    }

    /// As [`assert_nothing_left`](Self::assert_nothing_left), where a client made fifos that it
    /// could not remove: it does so with the task, and the task went with its shim.
    #[track_caller]
    pub(crate) fn assert_nothing_left_but_fifos(&self) {
        self.assert_nothing_left_but_files_of("/run/containerd/fifo");
    }

    /// As [`assert_nothing_left`](Self::assert_nothing_left), but for the files below a folder.
    #[track_caller]
    pub(crate) fn assert_nothing_left_but_files_of(&self, folder: &str) {
        self.assert_left(|what| what.starts_with(&format!("file {folder}/")));
    }

    #[track_caller]
    fn assert_left(&self, is_allowed: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        loop {
            let left =
                self.leftovers().into_iter().filter(|what| !is_allowed(what)).collect::<Vec<_>>();
            if left.is_empty() {
                return;
            }
            assert!(begun.elapsed() < GONE, "left behind after {GONE:?}:\n  {}", left.join("\n  "));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything that is left, one line each.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let namespace = self.namespace();
        let processes = self.processes().into_iter();
        let processes = processes
            .map(|found| format!("process {}: {}", found.pid, found.command_line().join(" ")));
        let mut left = processes.collect::<Vec<_>>();
        left.extend(self.mounts().iter().map(|mount| format!("mount {}", mount.display())));
        let folders = [
            "/run/containerd/s".into(),
            "/run/containerd/fifo".into(),
            Path::new("/run/containerd/runc").join(namespace),
            self.path("state/io.containerd.runtime.v2.task").join(namespace),
            self.path("tmp"),
        ];
        // The daemon itself never removes what it unpacks a checkpoint into.
        let is_the_daemons =
            |path: &PathBuf| path.to_string_lossy().contains("/tmp/ctrd-checkpoint");
        let files =
            folders.iter().flat_map(|folder| entries(folder)).filter(|path| !is_the_daemons(path));
        left.extend(files.map(|path| format!("file {}", path.display())));
        left.extend(self.cgroups().iter().map(|cgroup| format!("cgroup {}", cgroup.display())));
        left
    }

    /// The processes of this test's shims, runtimes and containers.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let folder = self.path("").to_string_lossy().into_owned();
        let cgroup = format!("/{}/", self.namespace());
        let is_ours = |process: &Process| {
            let words = process.command_line();
            let program = words.first().map(String::as_str).unwrap_or_default();
            let of_the_daemon = words.iter().any(|word| word.contains(&folder));
            let of_a_container = fs::read_to_string(format!("/proc/{}/cgroup", process.pid));
            Some(process.pid) != self.daemon_pid()
                && !program.ends_with("/ctr")
                && (of_the_daemon || of_a_container.is_ok_and(|cgroups| cgroups.contains(&cgroup)))
        };
        Process::all().into_iter().filter(is_ours).collect()
    }

    /// The mounts of this test's containers.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        // This thread's namespace is not its process's.
        let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("procfs");
        let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        points.filter(|point| point.starts_with(self.path(""))).collect()
    }

    /// The cgroups of this test's containers, in every hierarchy.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        self.cgroup_parents()
            .iter()
            .flat_map(|parent| entries(parent))
            .filter(|path| path.is_dir())
            .collect()
    }

    /// `/NAMESPACE` in every hierarchy; runc makes it and leaves it.
    fn cgroup_parents(&self) -> Vec<PathBuf> {
        let mut roots = entries(Path::new("/sys/fs/cgroup"));
        roots.push("/sys/fs/cgroup".into());
        roots
            .into_iter()
            .map(|root| root.join(self.namespace()))
            .filter(|path| path.is_dir())
            .collect()
    }
}

/// What a folder contains; nothing where there is none.
pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Removes all that a test left, so that a failed one does not disturb others.
pub(super) fn sweep(containerd: &Containerd) {
    let begun = Instant::now();
    // More than once: what is killed may just have forked.
    while begun.elapsed() < Duration::from_secs(5) {
        let processes = containerd.processes();
        if processes.is_empty() {
            break;
        }
        for process in processes {
            process.kill();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    for mount in containerd.mounts().iter().rev() {
        let _ = nix::mount::umount2(mount, MntFlags::MNT_DETACH);
    }
    for parent in containerd.cgroup_parents() {
        remove_cgroup(&parent);
    }
}

fn remove_cgroup(folder: &Path) {
    for child in entries(folder).iter().filter(|path| path.is_dir()) {
        remove_cgroup(child);
    }
    let _ = fs::remove_dir(folder);
}
