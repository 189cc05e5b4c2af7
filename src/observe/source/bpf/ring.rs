//! The ring of one shim, and its reader.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use libbpf_rs::{MapCore as _, MapHandle, MapType, RingBuffer, RingBufferBuilder, libbpf_sys};

use super::{
    decode::{Decoded, Malformed, decode},
    layout::{ARGS_MAX, Exec, PATH_MAX, Plain as _},
    refused,
};
use crate::{linux::namespace, observe::source::SourceError};

/// The size of the largest record, an exec with all its strings, in bytes.
const LARGEST_RECORD: usize = Exec::SIZE + (ARGS_MAX + 2 * PATH_MAX) as usize;

/// For how many records the buffer of the reader's callback keeps its memory between two reads.
const KEPT_CAPACITY_RECORDS: usize = 64;

/// A ring buffer that is mapped for reading.
#[derive(Debug)]
pub(super) struct Ring {
    reader: RingBuffer<'static>,
    map: MapHandle,
    capacity_bytes: usize,
    /// The records that the reader's callback has decoded. Shared, because the callback is owned by
    /// `reader`; both run on one thread, so the lock is never contended.
    batch: Arc<Mutex<DecodedBatch>>,
    /// The number of bytes that were read since the ring was last found empty.
    read_bytes: usize,
    /// When the ring was last found empty.
    emptied: Instant,
    /// How long the reader may leave the ring unread now, see [`Ring::pause`].
    pause: Duration,
}

/// The decoded records of one call of [`Ring::read_records`].
#[derive(Debug, Default)]
struct DecodedBatch {
    records: Vec<Result<Decoded, Malformed>>,
    bytes: usize,
}

impl Ring {
    /// Creates a ring of at least `bytes`. The kernel requires a power of two and whole pages
    /// (`ringbuf_map_alloc`), so the size is rounded up.
    pub(super) fn new(bytes: u32) -> Result<Self, SourceError> {
        let bytes = bytes.max(page_size()).checked_next_power_of_two().unwrap_or(1 << 31);
        let map = create(bytes)?;
        let batch = Arc::default();
        let reader = reader(&map, Arc::clone(&batch))?;
        Ok(Self {
            reader,
            map,
            capacity_bytes: bytes as usize,
            batch,
            read_bytes: 0,
            emptied: Instant::now(),
            pause: Duration::ZERO,
        })
    }

    /// The descriptor of the ring, readable while it has records.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// The number of the descriptor: the value that an update of the map of rings takes.
    pub(super) fn raw_fd(&self) -> RawFd {
        self.map.as_fd().as_raw_fd()
    }

    /// The kernel's id of the map: the value that a look-up in the map of rings returns.
    pub(super) fn id(&self) -> io::Result<u32> {
        Ok(self.map.info().map_err(io::Error::other)?.info.id)
    }

    /// Appends at most `limit` records, and returns whether there may be more. Never blocks.
    pub(super) fn read_records(
        &mut self,
        limit: usize,
        records: &mut Vec<Result<Decoded, Malformed>>,
    ) -> io::Result<bool> {
        let consumed = self.reader.consume_raw_n(limit);
        let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        records.append(&mut batch.records);
        batch.records.shrink_to(KEPT_CAPACITY_RECORDS);
        self.read_bytes = self.read_bytes.saturating_add(std::mem::take(&mut batch.bytes));
        // A negative result is a negated errno.
        let consumed = usize::try_from(consumed)
            .map_err(|_| io::Error::from_raw_os_error(consumed.saturating_neg()))?;
        Ok(consumed >= limit)
    }

    /// Notes that the ring was found empty. Returns whether it may have been full since it was last
    /// found empty.
    pub(super) fn note_empty(&mut self) -> bool {
        let (bytes, now) = (std::mem::take(&mut self.read_bytes), Instant::now());
        let time = now - std::mem::replace(&mut self.emptied, now);
        self.pause = pause(bytes, time, self.capacity_bytes);
        // A record is lost when it does not fit, so less space than the largest record counts as
        // full.
        bytes + LARGEST_RECORD > self.capacity_bytes
    }

    /// How long the reader may leave the ring unread now: at most the time in which records fill a
    /// quarter of the ring, at their rate before the ring was last found empty. Zero except in a
    /// storm of records.
    pub(super) fn pause(&self) -> Duration {
        self.pause
    }
}

/// How long the reader may leave a ring of `capacity` bytes unread, after `bytes` have arrived
/// within `time`.
fn pause(bytes: usize, time: Duration, capacity: usize) -> Duration {
    /// The lowest rate that counts as a storm, in bytes per millisecond: some 4000 processes per
    /// second.
    const STORM_RATE: u128 = 2048;
    /// The longest pause. Each wake-up of the reader evicts data of the container's processes from
    /// the CPU caches. A wake-up every fourth millisecond costs a third of one every millisecond.
    const LONGEST_PAUSE: Duration = Duration::from_millis(4);
    // The time counts as a millisecond at least, so that a few records between two quick reads are
    // not a storm.
    let (bytes, micros) = (bytes as u128, time.as_micros().max(1000));
    if bytes * 1000 < STORM_RATE * micros {
        return Duration::ZERO;
    }
    // A quarter, so that the ring does not overflow if the rate grows fourfold during the pause.
    let until_quarter = micros * (capacity as u128 / 4) / bytes;
    Duration::from_micros(u64::try_from(until_quarter).unwrap_or(u64::MAX)).min(LONGEST_PAUSE)
}

/// Checks that the kernel lets this process create a ring.
pub(super) fn probe() -> Result<(), SourceError> {
    create(page_size()).map(drop)
}

/// Creates the map of a ring. `bytes` is a power of two and a multiple of the page size.
fn create(bytes: u32) -> Result<MapHandle, SourceError> {
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    MapHandle::create(MapType::RingBuf, Some("lookout_ring"), 0, 0, bytes, &options)
        .map_err(refused("create a ring"))
}

/// Maps a ring. The reader's callback runs only inside [`Ring::read_records`], which bounds how
/// many records it collects.
fn reader(
    map: &MapHandle,
    batch: Arc<Mutex<DecodedBatch>>,
) -> Result<RingBuffer<'static>, SourceError> {
    // Read once for all records: a process that is still in the shim's own mount namespace at its
    // exec is a stage of the runtime (`runc init`).
    let mounts = namespace::own_inode(namespace::Kind::Mount).ok();
    let mut rings = RingBufferBuilder::new();
    let callback = move |bytes: &[u8]| {
        let mut batch = batch.lock().unwrap_or_else(PoisonError::into_inner);
        batch.bytes = batch.bytes.saturating_add(bytes.len());
        batch.records.push(decode(bytes, mounts));
        // A negative value would end the consume call.
        0
    };
    rings.add(map, callback).map_err(refused("map the ring"))?;
    rings.build().map_err(refused("map the ring"))
}

/// The size of a memory page in bytes.
fn page_size() -> u32 {
    u32::try_from(crate::sys::page_size()).unwrap_or(4096)
}

#[cfg(test)]
mod tests;
