//! A ring of one's own, and its reader.

use std::{
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd},
        unix::fs::MetadataExt as _,
    },
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use libbpf_rs::{MapCore as _, MapHandle, MapType, RingBuffer, RingBufferBuilder, libbpf_sys};

use super::{
    decode::{Decoded, Malformed, decode},
    layout::{ARGS_MAX, Exec, PATH_MAX, Plain as _},
    refused,
};
use crate::observe::source::SourceError;

/// The largest record that a program makes, in bytes.
const LARGEST: usize = Exec::SIZE + (ARGS_MAX + 2 * PATH_MAX) as usize;

/// A ring buffer, mapped for reading.
#[derive(Debug)]
pub(super) struct Ring {
    reader: RingBuffer<'static>,
    map: MapHandle,
    bytes: usize,
    /// What the reader's callback decoded in this turn.
    turn: Arc<Mutex<Turn>>,
    /// Bytes read since the ring was last found empty, and when that was.
    unread: usize,
    emptied: Instant,
    /// See [`Ring::pause`].
    pause: Duration,
}

#[derive(Debug, Default)]
struct Turn {
    records: Vec<Result<Decoded, Malformed>>,
    bytes: usize,
}

impl Ring {
    /// Makes one of at least `bytes`: a power of two, and whole pages.
    pub(super) fn new(bytes: u32) -> Result<Self, SourceError> {
        let bytes = bytes.max(page_size()).checked_next_power_of_two().unwrap_or(1 << 31);
        let map = create(bytes)?;
        let turn = Arc::default();
        let reader = reader(&map, Arc::clone(&turn))?;
        Ok(Self {
            reader,
            map,
            bytes: bytes as usize,
            turn,
            unread: 0,
            emptied: Instant::now(),
            pause: Duration::ZERO,
        })
    }

    /// Readable when there are records.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// As a slot takes it.
    pub(super) fn number(&self) -> RawFd {
        self.map.as_fd().as_raw_fd()
    }

    /// As the kernel numbers maps: what a look into the slot tells.
    pub(super) fn id(&self) -> io::Result<u32> {
        Ok(self.map.info().map_err(io::Error::other)?.info.id)
    }

    /// Appends at most `limit` records, and tells whether there may be more. Never waits.
    pub(super) fn take(
        &mut self,
        limit: usize,
        records: &mut Vec<Result<Decoded, Malformed>>,
    ) -> io::Result<bool> {
        let consumed = self.reader.consume_raw_n(limit);
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        records.append(&mut turn.records);
        self.unread = self.unread.saturating_add(std::mem::take(&mut turn.bytes));
        let consumed = usize::try_from(consumed)
            .map_err(|_| io::Error::from_raw_os_error(consumed.saturating_neg()))?;
        Ok(consumed >= limit)
    }

    /// The ring was found empty: whether it can have been full since the last time that it was.
    pub(super) fn drained(&mut self) -> bool {
        let (bytes, now) = (std::mem::take(&mut self.unread), Instant::now());
        self.pause = pause(bytes, now - std::mem::replace(&mut self.emptied, now), self.bytes);
        bytes + LARGEST > self.bytes
    }

    /// How long records may collect now without anybody being woken: as they came before the ring
    /// was last found empty, they will fill a quarter of it. Zero but in a storm.
    pub(super) fn pause(&self) -> Duration {
        self.pause
    }
}

/// The pause where `bytes` came within `time` into a ring of `room` bytes.
fn pause(bytes: usize, time: Duration, room: usize) -> Duration {
    /// So many bytes a millisecond are a storm: some 4000 processes a second.
    const STORM: u128 = 2048;
    /// A wake-up each millisecond costs the container's processes the caches; each fourth is a
    /// third of that.
    const LONGEST: Duration = Duration::from_millis(4);
    // Two looks in a row must not make a storm of a few records.
    let (bytes, micros) = (bytes as u128, time.as_micros().max(1000));
    if bytes * 1000 < STORM * micros {
        return Duration::ZERO;
    }
    let until_quarter = micros * (room as u128 / 4) / bytes;
    Duration::from_micros(u64::try_from(until_quarter).unwrap_or(u64::MAX)).min(LONGEST)
}

/// Asks whether the kernel lets this process have one.
pub(super) fn try_one() -> Result<(), SourceError> {
    create(page_size()).map(drop)
}

fn create(bytes: u32) -> Result<MapHandle, SourceError> {
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    MapHandle::create(MapType::RingBuf, Some("lookout_ring"), 0, 0, bytes, &options)
        .map_err(refused("make a ring"))
}

/// The callback runs only inside [`Ring::take`], which bounds how many records it collects.
fn reader(map: &MapHandle, turn: Arc<Mutex<Turn>>) -> Result<RingBuffer<'static>, SourceError> {
    let mounts = fs::metadata("/proc/self/ns/mnt")
        .ok()
        .and_then(|namespace| u32::try_from(namespace.ino()).ok());
    let mut rings = RingBufferBuilder::new();
    let callback = move |bytes: &[u8]| {
        let mut turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        turn.bytes = turn.bytes.saturating_add(bytes.len());
        turn.records.push(decode(bytes, mounts));
        0
    };
    rings.add(map, callback).map_err(refused("map the ring"))?;
    rings.build().map_err(refused("map the ring"))
}

/// Of memory, in bytes.
fn page_size() -> u32 {
    u32::try_from(procfs::page_size()).unwrap_or(4096)
}

#[cfg(test)]
mod tests;
