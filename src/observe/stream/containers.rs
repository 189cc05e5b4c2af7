//! The containers of the events in the journal, with the constants that the events leave out.
//!
//! What the configuration of a container says about it is long, and does not change. So it is not
//! in each event: a stream gives it once, at its beginning or before the first event of a container
//! that began later.

use std::{collections::VecDeque, mem::size_of, sync::Arc};

use crate::model::{Body, Container, Event};

/// The containers that have a description, and events in the journal or perhaps some to come, in
/// the order of their beginnings.
#[derive(Debug, Default)]
pub(super) struct Containers {
    known: VecDeque<Known>,
    /// How many containers were ever added, which is the serial of the last one.
    added: u64,
}

#[derive(Debug)]
struct Known {
    container: Arc<Container>,
    serial: u64,
    /// The sequence number of its last event; `None` before that event.
    closed_seq: Option<u64>,
}

impl Known {
    /// The bytes that the container counts towards the limit of the journal.
    fn charged_bytes(&self) -> usize {
        let Container { namespace, id, description, .. } = &*self.container;
        let texts = namespace.len() + id.len() + description.text_bytes();
        size_of::<Self>() + size_of::<Container>() + texts
    }
}

impl Containers {
    /// Notes the beginning or the end of a container. Returns how many bytes more the journal has
    /// to count.
    pub(super) fn note(&mut self, event: &Event, seq: u64) -> usize {
        let is_described = |one: &&Arc<Container>| !one.description.is_empty();
        let Some(container) = event.container.as_ref().filter(is_described) else { return 0 };
        match event.body {
            Body::ContainerStart { .. } => {
                self.added += 1;
                let container = container.clone();
                let known = Known { container, serial: self.added, closed_seq: None };
                let bytes = known.charged_bytes();
                self.known.push_back(known);
                bytes
            }
            Body::ContainerClose(_) => {
                let mut known = self.known.iter_mut();
                let is_its = |known: &&mut Known| Arc::ptr_eq(&known.container, container);
                if let Some(known) = known.find(is_its) {
                    known.closed_seq = Some(seq);
                }
                0
            }
            _ => 0,
        }
    }

    /// Forgets the container of which the event with this sequence number, its last, is evicted.
    /// Returns how many bytes less the journal has to count.
    pub(super) fn forget(&mut self, closed_seq: u64) -> usize {
        let of = |known: &Known| known.closed_seq == Some(closed_seq);
        let Some(at) = self.known.iter().position(of) else { return 0 };
        self.known.remove(at).map_or(0, |known| known.charged_bytes())
    }

    /// The serial of the container that was added last; 0 before the first.
    pub(super) fn newest(&self) -> u64 {
        self.added
    }

    /// The containers with a later serial that may have events from this sequence number on.
    pub(super) fn after(&self, serial: u64, seq: u64) -> impl Iterator<Item = &Arc<Container>> {
        let is_wanted = move |known: &&Known| {
            known.serial > serial && known.closed_seq.is_none_or(|closed| closed >= seq)
        };
        self.known.iter().filter(is_wanted).map(|known| &known.container)
    }
}
