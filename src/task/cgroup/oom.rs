//! OOM kills by the kernel: their count, and a watch for new ones.
//!
//! ```text
//!            count                          signal                    end of the watch
//! version 1  memory.oom_control `oom_kill`  an eventfd, registered    the eventfd, once
//!            of the cgroup and those below  through                   the cgroup is removed
//!                                           cgroup.event_control
//! version 2  memory.events `oom_kill`       POLLPRI of memory.events  POLLPRI of cgroup.events:
//!                                                                     `populated 0`
//! ```
//!
//! Only an increase of the count is reported. A signal only causes a read of the count, because
//! neither signal proves a kill:
//!
//! * The eventfd is signalled *before* a victim is chosen (`memcg1_oom_prepare`, Linux 6.12), and
//!   also if no victim is found. So the count is read ten more times within a second after a
//!   signal.
//! * `memory.events` changes whenever the cgroup reaches a limit: at most every 10 ms
//!   (`cgroup_file_notify`). Each change costs two short reads.
//!
//! On version 2, removing a cgroup wakes no process that polls its files, so `cgroup.events` is
//! watched as well. The reads are of files that show atomic counters, on version 2 of files that
//! are already open. On version 1 each count also reads files of up to [`NESTED_MAX`] nested
//! cgroups.

use std::{
    fs::{File, OpenOptions},
    future::pending,
    io::{self, Write as _},
    mem,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    time::Duration,
};

use nix::{sys::uio::pread, unistd::read};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::Handle,
    time::{Instant, sleep_until},
};

use super::{CgroupError, dir::Dir, file_format, location::Location};
use crate::sys::{eventfd::eventfd, nofile, watched};

/// The file of version 1 with the count of OOM kills.
const OOM_CONTROL: &str = "memory.oom_control";

/// The largest number of nested cgroups of version 1 that are read. The watch runs on the tokio
/// runtime's thread, and a container may create any number of nested cgroups. Version 2 needs no
/// such reads, because its counts are hierarchical.
const NESTED_MAX: usize = 64;

/// First and last pause between the reads after an eventfd's signal. Each pause is twice the
/// previous one.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(512);

/// Reports each increase of the count of OOM kills. Dropping it ends the watch.
#[derive(Debug)]
pub struct OomWatch {
    /// The count at the last read.
    last_count: u64,
    files: WatchedFiles,
}

/// The open files of a watch, by version.
#[derive(Debug)]
enum WatchedFiles {
    /// The count's file is opened for each read, because a shim has a descriptor for each
    /// container.
    V1 {
        dir: Dir,
        event: AsyncFd<OwnedFd>,
        recheck: Recheck,
    },
    V2 {
        memory_events: AsyncFd<OwnedFd>,
        cgroup_events: AsyncFd<OwnedFd>,
    },
}

/// One read of the count of OOM kills.
struct KillCount {
    kills: u64,
    /// Whether the count is final: the cgroup has no process any more.
    is_final: bool,
}

impl OomWatch {
    /// See [`Cgroup::watch_oom`](super::Cgroup::watch_oom).
    pub(super) fn new(location: &Location) -> Result<OomWatch, CgroupError> {
        let Some((dir, counter)) = open_counter(location)? else {
            return Err(CgroupError::NoMemoryController);
        };
        let files = match location {
            Location::V1(_) => WatchedFiles::v1(dir, &counter),
            Location::V2 { .. } => WatchedFiles::v2(dir, counter),
        };
        // The initial count is read after the signal is registered. A kill before this read is part
        // of the initial count, and no later kill is missed.
        files
            .and_then(|files| Ok(OomWatch { last_count: files.count()?.kills, files }))
            .map_err(|source| CgroupError::watch(dir.path(), source))
    }

    /// The count at the last read. Before the first [`next`](Self::next) it is the number of kills
    /// before the watch began. If [`Cgroup::oom_kills`](super::Cgroup::oom_kills) is greater, the
    /// difference was not reported yet.
    #[must_use]
    pub fn last_count(&self) -> u64 {
        self.last_count
    }

    /// Waits until the count has increased, and returns the new count.
    ///
    /// `None` means that the watch has ended: the cgroup is gone or cannot be read, or, on version
    /// 2, its last process has ended. Do not call `next` again after that. On version 1 an empty
    /// cgroup does not end the watch while the cgroup exists.
    ///
    /// Cancel safe: an increase that was not returned is returned by the next call. Never spins.
    pub async fn next(&mut self) -> Option<u64> {
        loop {
            let KillCount { kills, is_final } = self.files.count().ok()?;
            // On version 1 the count decreases when a nested cgroup is removed together with its
            // own count. So every read replaces the last count, even if the new count is not
            // greater.
            let before = mem::replace(&mut self.last_count, kills);
            if kills > before {
                return Some(kills);
            }
            if is_final {
                return None;
            }
            self.files.signalled().await.ok()?;
        }
    }
}

impl WatchedFiles {
    /// Registers for the kernel's signals of version 1.
    fn v1(dir: &Dir, oom_control: &File) -> io::Result<WatchedFiles> {
        // `watched` below would panic outside of a tokio runtime. `try_current` returns an error
        // instead.
        let handle = Handle::try_current().map_err(io::Error::other)?;
        let event = eventfd()?;
        // The kernel takes its own references to both files (`memcg_write_event_control`).
        let line = format!("{} {}", event.as_raw_fd(), oom_control.as_raw_fd());
        OpenOptions::new()
            .write(true)
            .open(dir.file("cgroup.event_control"))?
            .write_all(line.as_bytes())?;
        let _entered = handle.enter();
        let event = watched(event, Interest::READABLE)?;
        Ok(WatchedFiles::V1 { dir: dir.clone(), event, recheck: Recheck::default() })
    }

    /// Registers for the kernel's signals of version 2.
    fn v2(dir: &Dir, memory_events: File) -> io::Result<WatchedFiles> {
        let handle = Handle::try_current().map_err(io::Error::other)?;
        let _entered = handle.enter();
        let cgroup_events = File::open(dir.file("cgroup.events"))?;
        Ok(WatchedFiles::V2 {
            memory_events: watched(memory_events.into(), Interest::PRIORITY)?,
            cgroup_events: watched(cgroup_events.into(), Interest::PRIORITY)?,
        })
    }

    /// Reads the count. A read also rearms POLLPRI of the files (`kernfs_seq_show`).
    fn count(&self) -> io::Result<KillCount> {
        match self {
            WatchedFiles::V1 { dir, .. } => {
                // A failed read would end the watch.
                let _reserve = nofile::reserve();
                let oom_control = File::open(dir.file(OOM_CONTROL))?;
                Ok(KillCount { kills: kills_v1(&oom_control, dir)?, is_final: false })
            }
            WatchedFiles::V2 { memory_events, cgroup_events } => {
                // The order matters: if the cgroup is empty at the first read, the count that is
                // read after that is final.
                let populated = value(cgroup_events.get_ref(), "populated")?;
                let kills = kills_v2(memory_events.get_ref())?;
                Ok(KillCount { kills, is_final: populated == 0 })
            }
        }
    }

    /// Waits for the kernel's signal, or until the next recheck is due.
    async fn signalled(&mut self) -> io::Result<()> {
        // Readiness is cleared before the count is read, so a signal during that read causes
        // another read.
        match self {
            WatchedFiles::V1 { event, recheck, .. } => {
                tokio::select! {
                    ready = event.readable() => {
                        ready?.clear_ready();
                        let mut counter = [0; 8];
                        // The result is ignored: the value of the eventfd is not needed, and
                        // `EAGAIN` only means that the event was already read.
                        let _ = read(event.get_ref(), &mut counter);
                        recheck.begin();
                    }
                    () = recheck.due() => recheck.advance(),
                }
            }
            WatchedFiles::V2 { memory_events, cgroup_events } => {
                tokio::select! {
                    ready = memory_events.ready(Interest::PRIORITY) => ready?.clear_ready(),
                    ready = cgroup_events.ready(Interest::PRIORITY) => ready?.clear_ready(),
                }
            }
        }
        Ok(())
    }
}

/// The schedule of the reads that follow an eventfd's signal.
#[derive(Debug, Default)]
struct Recheck {
    /// The time of the next read, and the length of the pause before it. `None` if there was no
    /// signal within the last second.
    next: Option<(Instant, Duration)>,
}

impl Recheck {
    /// Restarts the schedule after a signal.
    fn begin(&mut self) {
        self.next = Some((Instant::now() + FIRST_PAUSE, FIRST_PAUSE));
    }

    /// Schedules the read after the one that is due now.
    fn advance(&mut self) {
        self.next = self
            .next
            .map(|(_, pause)| pause * 2)
            .filter(|&pause| pause <= LONGEST_PAUSE)
            .map(|pause| (Instant::now() + pause, pause));
    }

    /// Resolves when the next read is due; never if no read is scheduled.
    fn due(&self) -> impl Future<Output = ()> + use<> {
        let next = self.next;
        async move {
            match next {
                Some((at, _)) => sleep_until(at).await,
                None => pending().await,
            }
        }
    }
}

/// See [`Cgroup::oom_kills`](super::Cgroup::oom_kills).
pub(super) fn kills(location: &Location) -> Result<u64, CgroupError> {
    let Some((dir, counter)) = open_counter(location)? else {
        return Ok(0);
    };
    let kills = match location {
        Location::V1(_) => kills_v1(&counter, dir),
        Location::V2 { .. } => kills_v2(&counter),
    };
    kills.map_err(|error| CgroupError::read(dir.path(), error))
}

/// Opens the file that has the count of OOM kills. `None` if the cgroup has no memory controller.
fn open_counter(location: &Location) -> Result<Option<(&Dir, File)>, CgroupError> {
    let name = match location {
        Location::V1(_) => OOM_CONTROL,
        Location::V2 { .. } => "memory.events",
    };
    if let Some(dir) = location.memory() {
        let path = dir.file(name);
        match File::open(&path) {
            Ok(file) => return Ok(Some((dir, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(CgroupError::Read { path, source }),
        }
    }
    // The file is missing either because there is no memory controller or because the cgroup is
    // gone; only a missing cgroup is an error.
    location.check()?;
    Ok(None)
}

/// Version 1 counts a kill in the victim's own cgroup only (`memcg_memory_event`), so the counts of
/// nested cgroups are added.
fn kills_v1(oom_control: &File, dir: &Dir) -> io::Result<u64> {
    let own = value(oom_control, "oom_kill")?;
    // The first directory is `dir` itself, which is counted above. A nested cgroup that was just
    // removed is skipped.
    let nested = dir.tree(1 + NESTED_MAX).skip(1).filter_map(|nested| {
        let content = nested.ok()?.content(OOM_CONTROL)?;
        file_format::value(&content, "oom_kill")
    });
    Ok(nested.fold(own, u64::saturating_add))
}

fn kills_v2(memory_events: impl AsFd) -> io::Result<u64> {
    value(memory_events, "oom_kill")
}

/// One value of an open flat keyed file; 0 if this kernel has no such key.
fn value(file: impl AsFd, key: &str) -> io::Result<u64> {
    // Linux 7.2 writes 7 lines into memory.events, of 36 bytes at most.
    let mut content = [0; 1024];
    // Reads at offset 0, because the file stays open for many reads.
    let length = pread(file, &mut content, 0)?;
    Ok(file_format::value(&content[..length], key).unwrap_or_default())
}
