//! What the events say about one process.

use super::model::{Process, Program, State, Time};
use crate::{
    api::{self, Event},
    cli::render::events::command_text,
    model::{escaped, lossless},
};

/// A process as far as the events until now describe it.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) process: Process,
    /// The run of the shim, and the number, of its last event.
    pub(super) epoch: String,
    pub(super) last_seq: u64,
    /// The time of its first event; `None` if it was only listed.
    pub(super) seen_ns: Option<u64>,
    /// The process that made it: its entity id, and its pid.
    pub(super) parent: (String, i32),
    /// When the pid was used again, or the container was deleted.
    pub(super) reused_ns: Option<u64>,
    /// Whether it has ended, although no event says so.
    pub(super) is_gone: bool,
    created_ns: u64,
    start: Option<(Known, u64)>,
    parent_from: Option<Known>,
    /// The time of the event that the program is from.
    program_ns: Option<u64>,
    has_forked: bool,
    has_own_program: bool,
}

/// How well a fact is known, from the best source downwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    Fork,
    Start,
    /// Exact to a clock tick of 10 ms.
    Creation,
}

impl Draft {
    pub(super) fn new(process: &api::Process) -> Self {
        let id = Process { pid: process.pid, ..Process::default() };
        Self { process: id, ..Self::default() }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.process.state == State::Ended
    }

    /// Whether an event can be about this process, which has the same pid and is the latest one
    /// that has it.
    pub(super) fn may_be(&self, process: &api::Process, type_: &str) -> bool {
        if !self.process.entity_id.is_empty() && !process.entity_id.is_empty() {
            return false;
        }
        if self.created_ns > 0 && process.created_ns > 0 {
            return self.created_ns == process.created_ns;
        }
        let begins = matches!(type_, "process.fork" | "process.start" | "process.exec");
        match type_ {
            "process.fork" => false,
            _ => !(begins && self.has_ended()),
        }
    }

    /// Adds what an event says. The result does not depend on the order of the events.
    pub(super) fn absorb(&mut self, event: &Event, process: &api::Process) {
        self.epoch.clone_from(&event.epoch);
        self.last_seq = self.last_seq.max(event.seq);
        self.seen_ns = Some(self.seen_ns.unwrap_or(u64::MAX).min(event.time_ns));
        let is_exact = event.grade != "snapshot";
        let is_from_outside = process.origin != "descendant";
        match event.type_.as_str() {
            "process.fork" => {
                self.has_forked = true;
                if is_exact {
                    self.begin(Known::Fork, event.time_ns);
                }
            }
            // The runtime makes these processes, and what they did for it is not reported.
            "process.start" if is_exact && is_from_outside => {
                self.begin(Known::Start, event.time_ns);
            }
            "process.exit" => self.end(event.time_ns, process.ended.get_or_default()),
            "process.done" if !self.has_ended() => {
                let after = process.after_exit_ns.unwrap_or_default();
                self.end(event.time_ns.saturating_sub(after), &api::Ended::default());
            }
            "process.oom_kill" => self.process.oom_killed = true,
            _ => {}
        }
        if matches!(event.type_.as_str(), "process.start" | "process.exec") {
            self.has_own_program = true;
        }
        self.describe(process, event.type_ == "process.fork", event.time_ns);
    }

    /// Adds a process that a shim has listed.
    pub(super) fn absorb_listed(&mut self, process: &api::Process) {
        self.describe(process, false, process.created_ns);
    }

    fn describe(&mut self, process: &api::Process, is_fork: bool, time_ns: u64) {
        if process.created_ns > 0 {
            self.created_ns = process.created_ns;
            self.begin(Known::Creation, process.created_ns);
        }
        let Process { vpid, origin, exec_id, .. } = &mut self.process;
        *vpid = process.vpid.or(*vpid);
        if !process.origin.is_empty() {
            origin.clone_from(&process.origin);
            exec_id.clone_from(&process.exec_id);
        }
        let known = if is_fork { Known::Fork } else { Known::Creation };
        let parent = process.parent.get_or_default();
        let parent_pid = if process.parent_pid != 0 { process.parent_pid } else { parent.pid };
        // A process gets another parent when its own ends, so the first one counts.
        if parent_pid != 0 && self.parent_from.is_none_or(|from| known < from) {
            self.parent = (parent.entity_id.clone(), parent_pid);
            self.parent_from = Some(known);
        }
        let has_program =
            !process.args.is_empty() || process.executable.is_some() || process.comm.is_some();
        // The program of a fork is that of the parent.
        let is_newer = match self.program_ns {
            None => true,
            Some(before) => !is_fork && time_ns >= before,
        };
        if has_program && is_newer {
            self.program_ns = Some(if is_fork { 0 } else { time_ns });
            self.process.program = program(process);
        }
    }

    fn begin(&mut self, known: Known, time_ns: u64) {
        let new = (known, time_ns);
        self.start = Some(self.start.map_or(new, |start| start.min(new)));
    }

    fn end(&mut self, time_ns: u64, ended: &api::Ended) {
        let process = &mut self.process;
        process.state = State::Ended;
        process.end = Some(Time(time_ns));
        process.code = ended.code;
        process.status = ended.status.or(ended.code);
        process.signal = ended.signal.clone();
        process.oom_killed |= ended.oom_killed;
    }

    /// When it started, or the first time of the report.
    pub(super) fn start_ns(&self, from_ns: u64) -> u64 {
        self.start.map_or(from_ns, |(_, start)| start)
    }

    /// The process without its place in the tree, if it lived in this time.
    pub(super) fn within(self, (from_ns, to_ns): (u64, u64)) -> Option<Process> {
        let start = self.start.map(|(_, start)| start);
        let Self { mut process, reused_ns, is_gone, .. } = self;
        if is_gone && process.state == State::Running {
            process.state = State::Unknown;
        }
        let end_ns = process.end.map_or(reused_ns.unwrap_or(to_ns), |end| end.0);
        // A creation is exact to a clock tick, which can be after the end.
        process.start = start.map(|start| Time(start.min(end_ns)));
        process.duration_ns = match (process.start, process.end) {
            (Some(start), Some(end)) => Some(end.0 - start.0),
            _ => None,
        };
        process.is_fork = self.has_forked && !self.has_own_program;
        let clip = |time_ns: u64| time_ns.clamp(from_ns, to_ns);
        process.bar = (clip(start.unwrap_or(from_ns).min(end_ns)), clip(end_ns));
        (end_ns >= from_ns).then_some(process)
    }
}

fn program(process: &api::Process) -> Program {
    let texts = process.args.iter().chain(&process.executable);
    let is_escaped = texts.into_iter().any(|text| std::str::from_utf8(text).is_err());
    // One rule for all texts of a process, as in the events.
    let text = |bytes: &[u8]| match is_escaped {
        true => escaped(bytes),
        false => lossless(bytes).into_owned(),
    };
    Program {
        executable: process.executable.as_deref().map(text),
        command_args: process.args.iter().map(|arg| text(arg)).collect(),
        escaped: is_escaped,
        args_truncated: process.args_truncated,
        command: command_text(process),
    }
}
