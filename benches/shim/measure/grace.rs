//! Takes a constant of the kernel out of every figure: the wait for a grace period of RCU when a
//! process is put into a cgroup and none was for 20 ms.
//!
//! The write lock of `cgroup_threadgroup_rwsem` waits for one (`percpu_down_write`,
//! `rcu_sync_enter`), 8 ms on two cores; while another such write was just made, it does not. A
//! runtime does it once a container and exec. Left alone, the one that is faster, or comes sooner
//! after another, pays less often: as much as a whole container of crun's, and nothing that a shim
//! can do. So here nobody pays: this writes every 5 ms, the state that the mount option
//! `favordynmods` keeps the kernel in.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::{Result, place::Place};

/// Well within the shortest grace period.
const EVERY: Duration = Duration::from_millis(5);

/// Does `act` while writes to a cgroup follow one another.
pub(super) fn without<T>(place: &Place, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = AtomicBool::new(false);
    let own = own_cgroup(place).join("cgroup.procs");
    // Ourselves, to where we are: the lock is taken before anybody looks.
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

/// Where `hack/bench` has put us.
fn own_cgroup(place: &Place) -> PathBuf {
    let controller = PathBuf::from("/sys/fs/cgroup/cpu");
    let hierarchy = if controller.exists() { controller } else { PathBuf::from("/sys/fs/cgroup") };
    hierarchy.join(&place.namespace).join("bench")
}
