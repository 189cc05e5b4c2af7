//! Puts the new events of several shims into the order of their times.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    ops::ControlFlow,
    time::Duration,
};

use tokio::time::Instant;

use super::sink::EventSink;
use crate::api::Event;

/// How long an event is held back for earlier ones of other shims. A shim delivers its events
/// within milliseconds, and a person does not notice the delay.
const HOLD: Duration = Duration::from_millis(50);

/// Passes the events of several shims on in the order of their times, each after [`HOLD`]. The
/// events of a single shim are in order, and are passed on at once.
pub(super) struct Merged<'a, S> {
    sink: &'a mut S,
    /// The held events with their arrivals, by their times and the number of their arrival.
    held: BTreeMap<(u64, u64), (Instant, Event)>,
    arrived: u64,
    /// The latest time of each shim that has sent events, by its epoch.
    latest: HashMap<String, u64>,
}

impl<'a, S: EventSink> Merged<'a, S> {
    pub(super) fn new(sink: &'a mut S) -> Self {
        Self { sink, held: BTreeMap::new(), arrived: 0, latest: HashMap::new() }
    }
}

impl<S: EventSink> EventSink for Merged<'_, S> {
    fn handle_event(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        // A `hello` comes before the events of its shim; it has the time of the subscription.
        if event.seq == 0 {
            return self.sink.handle_event(event);
        }
        // The events of one shim stay in its order: those of two processors can have times that
        // are not.
        let latest = match self.latest.get_mut(&event.epoch) {
            Some(latest) => latest,
            None => self.latest.entry(event.epoch.clone()).or_default(),
        };
        *latest = event.time_ns.max(*latest);
        let time_ns = *latest;
        let is_alone = self.latest.len() < 2 && self.held.is_empty();
        if is_alone {
            return self.sink.handle_event(event);
        }
        self.arrived += 1;
        let place = (time_ns, self.arrived);
        self.held.insert(place, (Instant::now(), event.clone()));
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }

    fn due(&self) -> Option<Instant> {
        let (_, (arrival, _)) = self.held.first_key_value()?;
        Some(*arrival + HOLD)
    }

    fn release(&mut self, is_end: bool) -> io::Result<ControlFlow<()>> {
        let now = Instant::now();
        while let Some(first) = self.held.first_entry() {
            if !is_end && first.get().0 + HOLD > now {
                break;
            }
            let (_, event) = first.remove();
            if self.sink.handle_event(&event)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Times(Vec<u64>);

    impl EventSink for Times {
        fn handle_event(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
            self.0.push(event.time_ns);
            Ok(ControlFlow::Continue(()))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn event(epoch: &str, seq: u64, time_ns: u64) -> Event {
        Event { epoch: epoch.into(), seq, time_ns, ..Default::default() }
    }

    /// Check that a single shim is not delayed, and that the events of two are put in order.
    #[test]
    fn events_of_two_shims_are_in_the_order_of_their_times() {
        let mut times = Times::default();
        let mut merged = Merged::new(&mut times);
        for event in [event("a", 0, 9), event("a", 1, 1), event("a", 2, 2)] {
            assert!(merged.handle_event(&event).unwrap().is_continue());
        }
        assert_eq!((merged.due(), &merged.sink.0[..]), (None, &[9, 1, 2][..]));
        for event in [event("b", 1, 5), event("a", 3, 4), event("b", 2, 6), event("a", 4, 5)] {
            assert!(merged.handle_event(&event).unwrap().is_continue());
        }
        // Of the same shim, and so not before its event with the time 6.
        assert!(merged.handle_event(&event("b", 3, 3)).unwrap().is_continue());
        assert!(merged.release(false).unwrap().is_continue());
        assert_eq!(merged.sink.0, [9, 1, 2], "none has been held for long enough");
        std::thread::sleep(HOLD);
        assert!(merged.due().unwrap() <= Instant::now());
        assert!(merged.release(false).unwrap().is_continue());
        assert_eq!(merged.sink.0, [9, 1, 2, 4, 5, 5, 6, 3]);
        assert!(merged.handle_event(&event("b", 4, 7)).unwrap().is_continue());
        assert!(merged.release(true).unwrap().is_continue());
        assert_eq!(merged.sink.0.last(), Some(&7));
    }
}
