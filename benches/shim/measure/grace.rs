//! Removes a kernel delay from all figures: the wait for an RCU grace period when a process is
//! moved into a cgroup and no other was moved for 20 ms.
//!
//! Taking `cgroup_threadgroup_rwsem` for writing waits for a grace period (`percpu_down_write`,
//! `rcu_sync_enter`), 8 ms on two cores, unless another write was made just before. A runtime takes
//! that lock once for each container and exec. Without this module, the faster shim, or the one
//! that runs sooner after another, would wait less often. The difference is as large as a whole
//! container of crun, and no shim can influence it. So this module moves a process every 5 ms,
//! which keeps the kernel in the state of the mount option `favordynmods`, and no measurement
//! waits.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::{Result, workspace::Workspace};

/// The interval of the writes: well within the shortest grace period.
const EVERY: Duration = Duration::from_millis(5);

/// Runs `act` while writes to a cgroup follow one another.
pub(super) fn without<T>(workspace: &Workspace, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = AtomicBool::new(false);
    let own = own_cgroup(workspace).join("cgroup.procs");
    // This program is moved to the cgroup where it already is: the kernel takes the lock before it
    // notices.
    fs::write(&own, "0").map_err(|error| format!("{}: {error}", own.display()))?;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = fs::write(&own, "0");
                thread::sleep(EVERY);
            }
        });
        let result = act();
        done.store(true, Ordering::Relaxed);
        result
    })
}

/// The cgroup into which `hack/bench` put this program.
fn own_cgroup(workspace: &Workspace) -> PathBuf {
    let controller = PathBuf::from("/sys/fs/cgroup/cpu");
    let hierarchy = if controller.exists() { controller } else { PathBuf::from("/sys/fs/cgroup") };
    hierarchy.join(&workspace.namespace).join("bench")
}
