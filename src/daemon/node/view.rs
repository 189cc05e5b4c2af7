//! Who lives in the node's containers. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::api::{ContainerProcess, Event, ProcessesResponse, event::Body};

/// The processes that live, by the epoch of the shim that told of them.
#[derive(Debug, Default)]
pub struct View {
    shims: BTreeMap<String, Shim>,
}

#[derive(Debug, Default)]
struct Shim {
    /// What the list includes already.
    as_of: u64,
    /// By entity id.
    processes: HashMap<String, ContainerProcess>,
}

impl View {
    /// What a shim said of all its containers takes the place of what was known.
    pub fn reset(&mut self, epoch: &str, answer: ProcessesResponse) {
        let processes = answer.processes.into_iter().map(|one| (one.process.get_or_default().entity_id.clone(), one));
        self.shims.insert(epoch.to_owned(), Shim { as_of: answer.seq, processes: processes.collect() });
    }

    /// Takes over an event. Whether its shim has to be asked again: something is missing.
    pub fn apply(&mut self, epoch: &str, event: &Event) -> bool {
        if matches!(event.body, Some(Body::Gap(_))) {
            return true;
        }
        let shim = self.shims.entry(epoch.to_owned()).or_default();
        if event.seq != 0 && event.seq <= shim.as_of {
            return false;
        }
        match (&event.body, event.type_.as_str()) {
            (Some(Body::Process(process)), "process.fork" | "process.start" | "process.exec") => {
                let one = ContainerProcess {
                    container: event.container.clone(),
                    process: Some(process.clone()).into(),
                    ..Default::default()
                };
                shim.processes.insert(process.entity_id.clone(), one);
            }
            (Some(Body::Process(process)), "process.exit") => {
                shim.processes.remove(&process.entity_id);
            }
            (Some(Body::ContainerClose(_)), _) => {
                shim.processes.retain(|_, one| one.container != event.container);
            }
            _ => {}
        }
        false
    }

    /// A shim has gone, and its containers with it.
    pub fn forget(&mut self, epoch: &str) {
        self.shims.remove(epoch);
    }

    /// All processes: by shim, parents as a rule before children.
    #[must_use]
    pub fn processes(&self) -> Vec<ContainerProcess> {
        let of = |shim: &Shim| {
            let mut list: Vec<_> = shim.processes.values().cloned().collect();
            list.sort_by_key(|one| (one.process.get_or_default().created_ns, one.process.get_or_default().pid));
            list
        };
        self.shims.values().flat_map(of).collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shims.values().map(|shim| shim.processes.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Container, Gap, Process};

    fn event(seq: u64, type_: &str, entity: &str) -> Event {
        Event {
            seq,
            type_: type_.into(),
            container: Some(Container { id: "web".into(), ..Default::default() }).into(),
            body: Some(Body::Process(Process { entity_id: entity.into(), ..Default::default() })),
            ..Default::default()
        }
    }

    fn known(view: &View) -> Vec<String> {
        let mut known: Vec<_> = view.processes().iter().map(|one| one.process.entity_id.clone()).collect();
        known.sort_unstable();
        known
    }

    /// Check that what a list includes is not taken over again, and that a gap asks for a new one.
    #[test]
    fn events_go_on_after_a_list() {
        let mut view = View::default();
        let listed = ContainerProcess {
            process: Some(Process { entity_id: "a".into(), ..Default::default() }).into(),
            ..Default::default()
        };
        view.reset("e", ProcessesResponse { processes: vec![listed], seq: 5, ..Default::default() });
        assert!(!view.apply("e", &event(4, "process.start", "b")));
        assert!(!view.apply("e", &event(6, "process.fork", "c")));
        assert_eq!(known(&view), ["a", "c"]);
        view.apply("e", &event(7, "process.exit", "a"));
        view.apply("other", &event(1, "process.start", "d"));
        assert_eq!(known(&view), ["c", "d"]);
        assert!(view.apply("e", &Event { body: Some(Body::Gap(Gap::default())), ..Default::default() }));
        view.forget("e");
        assert_eq!(known(&view), ["d"]);
    }
}
