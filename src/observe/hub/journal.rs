//! The newest events, bounded by the bytes that they keep alive.

use std::{collections::VecDeque, mem::size_of};

use super::Unnumbered;
use crate::model::{Body, Event, Image, Owner, Parent, Port, Process};

/// A queue of events with consecutive seqs, oldest first.
///
/// Processes and images are shared between events, and following who shares what would cost more than
/// keeping an event does. So a process is charged to the events that show it first, and what it runs to its
/// start and to its exit: what is kept alive is at most about twice what is charged.
#[derive(Debug)]
pub(super) struct Journal {
    events: VecDeque<Kept>,
    /// The seq that the next event gets.
    next_seq: u64,
    bytes: usize,
    bytes_max: usize,
}

/// An event and what it was charged, so that making room need not look at what has long left the caches.
#[derive(Debug)]
struct Kept {
    event: Event,
    charge: usize,
}

impl Journal {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { events: VecDeque::new(), next_seq: 1, bytes: 0, bytes_max }
    }

    /// The seq of the newest event that ever was; 0 before the first.
    pub(super) fn newest(&self) -> u64 {
        self.next_seq - 1
    }

    /// The seq of the oldest event that is still here; the next one's while there is none.
    pub(super) fn first(&self) -> u64 {
        self.next_seq - self.events.len() as u64
    }

    /// The oldest event that is still here.
    pub(super) fn oldest(&self) -> Option<&Event> {
        self.events.front().map(|kept| &kept.event)
    }

    /// The events from this seq on.
    pub(super) fn from(&self, seq: u64) -> impl Iterator<Item = &Event> {
        let skip = usize::try_from(seq.saturating_sub(self.first())).unwrap_or(usize::MAX);
        self.events.range(skip.min(self.events.len())..).map(|kept| &kept.event)
    }

    /// Numbers an event and keeps it. Afterwards there may be too much: see [`is_over`](Self::is_over).
    pub(super) fn append(&mut self, event: Unnumbered) {
        let Unnumbered { monotonic_ns, realtime_ns, grade, source, container, body } = event;
        let event = Event { seq: self.next_seq, monotonic_ns, realtime_ns, grade, source, container, body };
        self.next_seq += 1;
        let charge = charge(&event.body);
        self.bytes += charge;
        if self.events.len() == self.events.capacity() {
            // Doubling would keep room for twice of what may ever be here.
            self.events.reserve_exact((self.events.len() / 4).max(32));
        }
        self.events.push_back(Kept { event, charge });
    }

    /// Whether the oldest event has to go. The newest never has to.
    pub(super) fn is_over(&self) -> bool {
        self.bytes > self.bytes_max && self.events.len() > 1
    }

    /// Takes the oldest event out.
    pub(super) fn evict(&mut self) -> Option<Event> {
        let Kept { event, charge } = self.events.pop_front()?;
        self.bytes -= charge;
        Some(event)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What an event pays.
fn charge(body: &Body) -> usize {
    /// What the allocator and the two counts of an `Arc` add.
    const OVERHEAD: usize = 32;
    let process = |process: &Process| {
        let texts = [&process.exec_id, &process.cgroup];
        OVERHEAD + size_of::<Process>() + texts.into_iter().flatten().map(|text| text.len()).sum::<usize>()
    };
    let image = |image: &Image| OVERHEAD + size_of::<Image>() + image_bytes(image);
    let more = match body {
        Body::Fork(forked) => process(forked),
        Body::Start(started) | Body::Exec(started) => process(started) + image(&started.image),
        Body::Exit { process, .. } => image(&process.image),
        Body::Held { holders, .. } => {
            holders.iter().map(|holder| size_of::<Parent>() + image(&holder.image)).sum::<usize>()
        }
        Body::PortOpen(port) | Body::PortClose(port) => {
            OVERHEAD + size_of::<Port>() + port.owners.len() * size_of::<Owner>()
        }
        Body::Capability(capability) => capability.backend.len() + capability.reason.len(),
        _ => 0,
    };
    size_of::<Kept>() + more
}

/// The bytes that an image has beyond itself.
pub(super) fn image_bytes(image: &Image) -> usize {
    let parts = [&image.executable, &image.working_directory, &image.comm];
    let args = image.args.as_ref().map_or(0, |args| args.bytes.len());
    args + parts.into_iter().flatten().map(|part| part.len()).sum::<usize>()
}

#[cfg(test)]
mod tests;
