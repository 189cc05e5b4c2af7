//! The limit of descriptors (`RLIMIT_NOFILE`) of this process: raised for the process itself, with
//! a reserve, and as it was for its children.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The number of descriptors that only the holder of a [`Reserve`] can use.
pub const RESERVED: u64 = 32;

/// Changes of the limits, in numbers of descriptors.
#[derive(Debug)]
struct Changes {
    /// The soft and the hard limit with which this process was started; `None` before [`raise`].
    inherited: Option<(u64, u64)>,
    /// The number of [`Reserve`]s that exist.
    reserves: usize,
    /// The soft limit before the first of these reserves, and with it.
    soft: (u64, u64),
}

static CHANGES: Mutex<Changes> = Mutex::new(Changes { inherited: None, reserves: 0, soft: (0, 0) });

/// A guard. While it exists, this process may also use its last [`RESERVED`] descriptors.
#[derive(Debug)]
pub struct Reserve(());

/// Raises the soft limit of this process to its hard limit, except for the reserve.
///
/// # Errors
///
/// The error of getrlimit(2) or setrlimit(2).
pub fn raise() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    lock().inherited = Some((soft, hard));
    // A limit that is too low for the whole reserve is halved.
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard - RESERVED.min(hard / 2), hard)?)
}

/// Makes the reserve usable, for work that must succeed although descriptors have run out: exits,
/// signals, deletes.
#[must_use]
pub fn reserve() -> Reserve {
    let mut changes = lock();
    changes.reserves += 1;
    // The limit is read each time, because an administrator may change it with prlimit(1).
    if changes.reserves == 1
        && let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
    {
        changes.soft = (soft, soft.saturating_add(RESERVED).min(hard));
        let _ = setrlimit(Resource::RLIMIT_NOFILE, changes.soft.1, hard);
    }
    Reserve(())
}

impl Drop for Reserve {
    fn drop(&mut self) {
        let mut changes = lock();
        changes.reserves -= 1;
        if changes.reserves == 0
            && let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
            && soft == changes.soft.1
        {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, changes.soft.0, hard);
        }
    }
}

/// The limits for a child: those with which this process was started. `None` before [`raise`],
/// when a child inherits the right ones.
pub(super) fn of_child() -> Option<(u64, u64)> {
    lock().inherited
}

/// Sets both limits of the calling process, as far as its present hard limit allows. Makes system
/// calls only, so it can run between fork and exec.
pub(super) fn set((soft, hard): (u64, u64)) -> nix::Result<()> {
    let (_, present) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, soft.min(present), hard.min(present))
}

fn lock() -> MutexGuard<'static, Changes> {
    // No code that can panic runs under the lock.
    CHANGES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// Check that only a holder of the reserve gets a descriptor when the others are used, and that
    /// a child has the limits from before.
    #[test]
    fn the_reserve_is_for_its_holders() {
        let child = crate::sys::process::fork_for_test(|| {
            setrlimit(Resource::RLIMIT_NOFILE, 20, 100).unwrap();
            raise().unwrap();
            assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (100 - RESERVED, 100));
            assert_eq!(of_child(), Some((20, 100)));
            let open = || File::open("/dev/null");
            let used: Vec<_> = std::iter::from_fn(|| open().ok()).collect();
            assert!(used.len() > 32);
            {
                let (_first, _second) = (reserve(), reserve());
                let reserved: Vec<_> = std::iter::from_fn(|| open().ok()).collect();
                assert_eq!(reserved.len(), 32);
            }
            assert!(open().is_err());
            // A change from outside stays.
            setrlimit(Resource::RLIMIT_NOFILE, 90, 100).unwrap();
            drop(reserve());
            assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (90, 100));
            set((20, 200)).unwrap();
            assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (20, 100));
            std::process::exit(0);
        });
        assert_eq!(
            nix::sys::wait::waitpid(child, None).unwrap(),
            nix::sys::wait::WaitStatus::Exited(child, 0)
        );
    }
}
