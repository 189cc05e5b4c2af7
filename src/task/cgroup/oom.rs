//! The kernel's OOM kills: counted, and watched.
//!
//! ```text
//!            count                            signal                                    the end
//! version 1  memory.oom_control `oom_kill`    an eventfd, written into                  the eventfd, once
//!            of the cgroup and those below    cgroup.event_control                      the cgroup is removed
//! version 2  memory.events `oom_kill`         POLLPRI of memory.events                  POLLPRI of cgroup.events:
//!                                                                                       `populated 0`
//! ```
//!
//! The count decides and the signal only says when to look, because neither signal means a kill:
//!
//! * The eventfd is signalled *before* a victim is chosen (`memcg1_oom_prepare`, Linux 6.12), and
//!   also where none is found. So after a signal the count is looked at again, ten times within a
//!   second.
//! * `memory.events` changes whenever the cgroup reaches a limit: at most every 10 ms
//!   (`cgroup_file_notify`), each time for the price of two short reads.
//!
//! Removal of a cgroup wakes nobody who polls its files on version 2, hence the look at
//! `cgroup.events`. The reads here are of open files that show atomic counters; on version 1 an OOM
//! also looks at up to [`NESTED_MAX`] nested cgroups.

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

use super::{CgroupError, content, dir::Dir, place::Place};
use crate::sys::{eventfd::eventfd, watched};

/// How many nested cgroups of version 1 are asked: the watch runs on the runtime's thread, and a
/// container may make as many as it likes. Version 2 needs no asking, its counts are hierarchical.
const NESTED_MAX: usize = 64;

/// The pauses after an eventfd's signal, each twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(512);

/// Tells each growth of the count of OOM kills. Dropping it ends the watch.
#[derive(Debug)]
pub struct OomWatch {
    /// The count when it was last looked at.
    told: u64,
    watched: Watched,
}

#[derive(Debug)]
enum Watched {
    V1 { oom_control: File, dir: Dir, event: AsyncFd<OwnedFd>, recheck: Recheck },
    V2 { memory_events: AsyncFd<OwnedFd>, cgroup_events: AsyncFd<OwnedFd> },
}

/// What a look found.
struct Count {
    kills: u64,
    /// Nobody is left who could be killed after this.
    last: bool,
}

impl OomWatch {
    /// See [`Cgroup::watch_oom`](super::Cgroup::watch_oom).
    pub(super) fn new(place: &Place) -> Result<OomWatch, CgroupError> {
        let Some((dir, counter)) = open(place)? else {
            return Err(CgroupError::NoMemoryController);
        };
        let watched = match place {
            Place::V1(_) => Watched::v1(dir, counter),
            Place::V2 { .. } => Watched::v2(dir, counter),
        };
        // Counted after the signal is in place: a kill in between is no longer news, yet none that
        // comes later is missed.
        watched
            .and_then(|watched| Ok(OomWatch { told: watched.count()?.kills, watched }))
            .map_err(|source| CgroupError::watch(dir.path(), source))
    }

    /// The count when it was last looked at; before the first [`next`](Self::next), the kills that
    /// the cgroup had seen when the watch began. What
    /// [`Cgroup::oom_kills`](super::Cgroup::oom_kills) tells beyond it is news.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.told
    }

    /// Waits until the count has grown and tells the new count.
    ///
    /// `None` is the end: the cgroup is gone or cannot be read, or, on version 2, its last process
    /// has ended. Call no more then. Version 1 knows no such end while the empty cgroup exists.
    ///
    /// Cancel-safe: what was not told is told by the next call. Never spins.
    pub async fn next(&mut self) -> Option<u64> {
        loop {
            let Count { kills, last } = self.watched.count().ok()?;
            // On version 1 the count falls when a nested cgroup goes and takes its own along.
            let before = mem::replace(&mut self.told, kills);
            if kills > before {
                return Some(kills);
            }
            if last {
                return None;
            }
            self.watched.signalled().await.ok()?;
        }
    }
}

impl Watched {
    fn v1(dir: &Dir, oom_control: File) -> io::Result<Watched> {
        let handle = Handle::try_current().map_err(io::Error::other)?;
        let event = eventfd()?;
        // The kernel takes its own references to both (`memcg_write_event_control`).
        let line = format!("{} {}", event.as_raw_fd(), oom_control.as_raw_fd());
        OpenOptions::new()
            .write(true)
            .open(dir.file("cgroup.event_control"))?
            .write_all(line.as_bytes())?;
        let _entered = handle.enter();
        let event = watched(event, Interest::READABLE)?;
        Ok(Watched::V1 { oom_control, dir: dir.clone(), event, recheck: Recheck::default() })
    }

    fn v2(dir: &Dir, memory_events: File) -> io::Result<Watched> {
        let handle = Handle::try_current().map_err(io::Error::other)?;
        let _entered = handle.enter();
        let cgroup_events = File::open(dir.file("cgroup.events"))?;
        Ok(Watched::V2 {
            memory_events: watched(memory_events.into(), Interest::PRIORITY)?,
            cgroup_events: watched(cgroup_events.into(), Interest::PRIORITY)?,
        })
    }

    /// Looks at the files. A read also arms their POLLPRI again (`kernfs_seq_show`).
    fn count(&self) -> io::Result<Count> {
        match self {
            Watched::V1 { oom_control, dir, .. } => {
                Ok(Count { kills: kills_v1(oom_control, dir)?, last: false })
            }
            Watched::V2 { memory_events, cgroup_events } => {
                // In this order: once nobody is left, the count that is read next is the last.
                let populated = value(cgroup_events.get_ref(), "populated")?;
                let kills = kills_v2(memory_events.get_ref())?;
                Ok(Count { kills, last: populated == 0 })
            }
        }
    }

    /// Waits for the kernel's signal, or for the time of another look.
    async fn signalled(&mut self) -> io::Result<()> {
        // Readiness is cleared before the look that follows, so a signal during it is a new one.
        match self {
            Watched::V1 { event, recheck, .. } => {
                tokio::select! {
                    ready = event.readable() => {
                        ready?.clear_ready();
                        let mut counter = [0; 8];
                        // `EAGAIN` where a signal was seen twice; the count is not of interest.
                        let _ = read(event.get_ref(), &mut counter);
                        recheck.begin();
                    }
                    () = recheck.due() => recheck.advance(),
                }
            }
            Watched::V2 { memory_events, cgroup_events } => {
                tokio::select! {
                    ready = memory_events.ready(Interest::PRIORITY) => ready?.clear_ready(),
                    ready = cgroup_events.ready(Interest::PRIORITY) => ready?.clear_ready(),
                }
            }
        }
        Ok(())
    }
}

/// The looks that follow an eventfd's signal.
#[derive(Debug, Default)]
struct Recheck {
    /// When to look next, and the pause that ends then.
    next: Option<(Instant, Duration)>,
}

impl Recheck {
    fn begin(&mut self) {
        self.next = Some((Instant::now() + FIRST_PAUSE, FIRST_PAUSE));
    }

    fn advance(&mut self) {
        self.next = self
            .next
            .map(|(_, pause)| pause * 2)
            .filter(|&pause| pause <= LAST_PAUSE)
            .map(|pause| (Instant::now() + pause, pause));
    }

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
pub(super) fn kills(place: &Place) -> Result<u64, CgroupError> {
    let Some((dir, counter)) = open(place)? else {
        return Ok(0);
    };
    let kills = match place {
        Place::V1(_) => kills_v1(&counter, dir),
        Place::V2 { .. } => kills_v2(&counter),
    };
    kills.map_err(|error| CgroupError::read(dir.path(), error))
}

/// Opens the file with the count; nothing without a memory controller.
fn open(place: &Place) -> Result<Option<(&Dir, File)>, CgroupError> {
    let name = match place {
        Place::V1(_) => "memory.oom_control",
        Place::V2 { .. } => "memory.events",
    };
    if let Some(dir) = place.memory() {
        let path = dir.file(name);
        match File::open(&path) {
            Ok(file) => return Ok(Some((dir, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(CgroupError::Read { path, source }),
        }
    }
    place.check()?;
    Ok(None)
}

/// Version 1 counts a kill in the victim's own cgroup alone (`memcg_memory_event`).
fn kills_v1(oom_control: &File, dir: &Dir) -> io::Result<u64> {
    let own = value(oom_control, "oom_kill")?;
    let nested = dir.tree(1 + NESTED_MAX).skip(1).filter_map(|nested| {
        let content = nested.ok()?.content("memory.oom_control")?;
        content::value(&content, "oom_kill")
    });
    Ok(nested.fold(own, u64::saturating_add))
}

fn kills_v2(memory_events: impl AsFd) -> io::Result<u64> {
    value(memory_events, "oom_kill")
}

/// One value of a flat keyed file that is open; 0 where the kernel does not tell it yet.
fn value(file: impl AsFd, key: &str) -> io::Result<u64> {
    // Linux 7.2 writes 7 lines into memory.events, of 36 bytes at most.
    let mut content = [0; 1024];
    let length = pread(file, &mut content, 0)?;
    Ok(content::value(&content[..length], key).unwrap_or_default())
}
