//! Finds what containers left behind, and removes it at the end of a test.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::mount::MntFlags;

use super::Containerd;
use crate::harness::Process;

/// The longest time until everything is removed. A shim has a second to exit after its last task is
/// deleted; a busy machine gets two more.
const GONE: Duration = Duration::from_secs(3);

impl Containerd {
    /// Panics unless no process, mount, cgroup, socket, fifo, runtime state, bundle or temporary
    /// file is left of any container of this test.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        self.assert_left(|_| false);
    }

    /// As [`assert_nothing_left`](Self::assert_nothing_left), but allows fifos. A client removes
    /// its fifos together with the task, which is not possible when the task ended with its shim.
    #[track_caller]
    pub(crate) fn assert_nothing_left_but_fifos(&self) {
        self.assert_nothing_left_but_files_of("/run/containerd/fifo");
    }

    /// As [`assert_nothing_left`](Self::assert_nothing_left), but allows files below a directory.
    #[track_caller]
    pub(crate) fn assert_nothing_left_but_files_of(&self, directory: &str) {
        self.assert_left(|what| what.starts_with(&format!("file {directory}/")));
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

    /// Everything that exists of this test's containers, one line each.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let namespace = self.namespace();
        let processes = self.processes().into_iter();
        let processes = processes
            .map(|found| format!("process {}: {}", found.pid, found.command_line().join(" ")));
        let mut left = processes.collect::<Vec<_>>();
        left.extend(self.mounts().iter().map(|mount| format!("mount {}", mount.display())));
        let directories = [
            "/run/containerd/s".into(),
            "/run/containerd/fifo".into(),
            Path::new("/run/containerd/runc").join(namespace),
            self.path("state/io.containerd.runtime.v2.task").join(namespace),
            self.path("tmp"),
        ];
        // containerd itself never removes the directory into which it unpacks a checkpoint.
        let is_the_daemons =
            |path: &PathBuf| path.to_string_lossy().contains("/tmp/ctrd-checkpoint");
        let files = directories
            .iter()
            .flat_map(|directory| entries(directory))
            .filter(|path| !is_the_daemons(path));
        left.extend(files.map(|path| format!("file {}", path.display())));
        left.extend(self.cgroups().iter().map(|cgroup| format!("cgroup {}", cgroup.display())));
        left
    }

    /// The running processes of this test's shims, runtimes and containers.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let directory = self.path("").to_string_lossy().into_owned();
        let cgroup = format!("/{}/", self.namespace());
        let is_ours = |process: &Process| {
            let words = process.command_line();
            let program = words.first().map(String::as_str).unwrap_or_default();
            let of_the_daemon = words.iter().any(|word| word.contains(&directory));
            let of_a_container = fs::read_to_string(format!("/proc/{}/cgroup", process.pid));
            Some(process.pid) != self.daemon_pid()
                && !program.ends_with("/ctr")
                && (of_the_daemon || of_a_container.is_ok_and(|cgroups| cgroups.contains(&cgroup)))
        };
        Process::all().into_iter().filter(is_ours).collect()
    }

    /// The mounts of this test's containers.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        // Only this thread has the private mount namespace, not the whole process.
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

    /// The directory `/NAMESPACE` in every hierarchy. runc creates it and does not remove it.
    fn cgroup_parents(&self) -> Vec<PathBuf> {
        let mut roots = entries(Path::new("/sys/fs/cgroup"));
        roots.push("/sys/fs/cgroup".into());
        roots
            .into_iter()
            // What has no such file is a directory beside the hierarchies.
            .filter(|root| root.join("cgroup.procs").exists())
            .map(|root| root.join(self.namespace()))
            .filter(|path| path.is_dir())
            .collect()
    }
}

/// The paths in a directory; empty if it does not exist.
pub(super) fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Removes everything that a test left, so that a failed test does not affect others.
pub(super) fn sweep(containerd: &Containerd) {
    let begun = Instant::now();
    // Repeated, because a killed process may just have forked.
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

fn remove_cgroup(directory: &Path) {
    for child in entries(directory).iter().filter(|path| path.is_dir()) {
        remove_cgroup(child);
    }
    let _ = fs::remove_dir(directory);
}
