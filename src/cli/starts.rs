//! What a person wants to see first of many events: each program that started, and each exit.

use std::collections::{HashMap, HashSet};

use crate::api::{Event, Process, event::Body};

/// How many processes are remembered. Exits that a gap has swallowed would otherwise add up.
const PROCESSES_MAX: usize = 1 << 16;

/// Selects one event for each program that a process runs, and one for each exit. Leaves out forks,
/// the ends of outputs, execs of the same file (such as a shell that replaces itself), and exits
/// without failure of processes that ran no program of their own (such as subshells).
#[derive(Debug, Default)]
pub(super) struct StartsAndExits {
    /// The executable of each living process, by its entity id.
    executables: HashMap<String, Option<Vec<u8>>>,
    /// The processes that have run no program of their own.
    forked: HashSet<String>,
}

impl StartsAndExits {
    /// Whether an event is shown. Expects all events, in order.
    pub(super) fn shows(&mut self, event: &Event) -> bool {
        let Some(Body::Process(process)) = &event.body else { return true };
        if self.executables.len() > PROCESSES_MAX || self.forked.len() > PROCESSES_MAX {
            (self.executables, self.forked) = Default::default();
        }
        match event.type_.as_str() {
            "process.fork" => {
                self.forked.insert(process.entity_id.clone());
                false
            }
            "process.done" => false,
            "process.start" => {
                self.runs(process);
                true
            }
            "process.exec" => self.runs(process),
            "process.exit" => {
                self.executables.remove(&process.entity_id);
                let is_fork = self.forked.remove(&process.entity_id);
                let has_failed = process.ended.as_ref().is_none_or(|end| end.status != Some(0));
                !is_fork || has_failed
            }
            _ => true,
        }
    }

    /// Notes the executable of a process. Returns whether it is another one than before.
    fn runs(&mut self, process: &Process) -> bool {
        self.forked.remove(&process.entity_id);
        let executable = process.executable.clone();
        let before = self.executables.insert(process.entity_id.clone(), executable.clone());
        before.is_none_or(|before| before.is_none() || before != executable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Ended;

    fn event(type_: &str, entity: &str, executable: &str, status: Option<u32>) -> Event {
        let ended = (type_ == "process.exit").then(|| Ended { status, ..Default::default() });
        let process = Process {
            entity_id: entity.into(),
            executable: (!executable.is_empty()).then(|| executable.into()),
            ended: ended.into(),
            ..Default::default()
        };
        Event { type_: type_.into(), body: Some(Body::Process(process)), ..Default::default() }
    }

    /// Check an entrypoint, a shell that replaces itself, a subshell, and one that fails.
    #[test]
    fn a_person_sees_programs_and_exits() {
        let mut starts = StartsAndExits::default();
        for (type_, entity, executable, status, is_shown) in [
            ("process.start", "a", "/bin/sh", None, true),
            ("process.exec", "a", "/usr/bin/app", None, true),
            ("process.exec", "a", "/usr/bin/app", None, false),
            ("process.fork", "b", "/usr/bin/app", None, false),
            ("process.exit", "b", "/usr/bin/app", Some(0), false),
            ("process.fork", "c", "/usr/bin/app", None, false),
            ("process.exit", "c", "/usr/bin/app", Some(1), true),
            ("process.fork", "d", "/usr/bin/app", None, false),
            ("process.start", "d", "/bin/true", None, true),
            ("process.exit", "d", "/bin/true", Some(0), true),
            ("process.done", "d", "/bin/true", None, false),
            // Of a process that was not seen before, nothing is known that could be left out.
            ("process.exec", "e", "/bin/sh", None, true),
            ("process.exit", "f", "", Some(0), true),
            ("process.exit", "a", "/usr/bin/app", None, true),
            ("process.oom_kill", "g", "", None, true),
        ] {
            let event = event(type_, entity, executable, status);
            assert_eq!(starts.shows(&event), is_shown, "{type_} {entity} {executable}");
        }
        assert!(starts.shows(&Event::default()));
    }

    /// Check that the memory is bounded if no exit ever comes.
    #[test]
    fn lost_exits_do_not_add_up() {
        let mut starts = StartsAndExits::default();
        for process in 0..3 * PROCESSES_MAX {
            starts.shows(&event("process.fork", &process.to_string(), "", None));
            starts.shows(&event("process.start", &format!("s{process}"), "/bin/sh", None));
        }
        assert!(starts.forked.len() <= PROCESSES_MAX + 1);
        assert!(starts.executables.len() <= PROCESSES_MAX + 1);
    }
}
