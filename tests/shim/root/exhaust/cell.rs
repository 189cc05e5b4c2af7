//! One cell: makes the scene, lets the shortage meet the operation, ends the container, and judges.
//!
//! The rules, from the project's promises P1 to P3:
//!
//! * each exit comes within a second, or within two after the shortage has ended;
//! * State answers in 100 ms all the time;
//! * what was lacking can be removed afterwards, and nothing is left.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use super::{
    Implementation,
    client::{Answer, CALL, Prober, States},
    operation::{AT_ONCE, Operation, Prepared},
    results::Report,
    scene::{CLIENT, PROBE, Plan, SECOND, Scene, WEB},
    shortage::{Applied, Shortage},
};
use crate::harness::containerd::Version;

/// The longest time until an exit comes, after the shortage has ended.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// How long a shim waits after it has reconnected to containerd, for subscribers to return.
const REPLAY: Duration = Duration::from_secs(2);

/// The longest time until nothing is left: a shim has a second to exit after its last task.
const GONE: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) version: Version,
    pub(super) shim: Implementation,
    pub(super) shortage: Shortage,
    pub(super) operation: Operation,
}

/// What is seen of the exits.
enum Exit {
    /// While the shortage lasted, after the process was killed.
    During(Duration),
    Afterwards(Duration),
    Lost,
}

impl Cell {
    /// Runs the cell. Never panics: what went wrong stands in the report.
    pub(super) fn report(self) -> Report {
        let mut report = Report::of(&self);
        if let Some(why) = self.operation.does_not_meet(self.shortage) {
            report.inapplicable = Some(why.to_owned());
            return report;
        }
        let begun = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| self.run(&mut report)));
        if let Err(panic) = ended {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            report.wrong.push(format!("panic: {}", text.unwrap_or_default()));
        }
        report.total_ms = millis(begun.elapsed());
        report
    }

    fn run(self, report: &mut Report) {
        let plan = Plan {
            version: self.version,
            shim: self.shim,
            disk: self.shortage.disk(),
            logs: self.operation.logs(self.shortage),
        };
        let mut scene = Scene::set(&plan);
        let prepared = self.operation.prepare(&scene);
        let probing = scene.connection();
        let lacks = self.shortage.apply(&mut scene);
        report.proof = lacks.prove(&scene);
        let kills_shim = self.operation == Operation::DeleteVerb;
        let prober = (!kills_shim).then(|| Prober::start(&probing, WEB));
        let began = Instant::now();
        let answer = self.answer(&mut scene, &prepared, &lacks, report);
        let exit = self.end(&mut scene, lacks, &answer, began, report);
        let states = prober.map(Prober::stop);
        self.judge_states(states, report);
        self.judge_exit(&scene, &exit, report);
        if self.shortage != Shortage::ClientGone {
            report.wrong.extend(self.operation.settle(&scene, AFTERWARDS));
        }
        self.clean_up(&scene, report);
        if report.proof.is_none() {
            report.wrong.push("nothing was lacking".to_owned());
        }
    }

    /// Does the operation.
    fn answer(
        self,
        scene: &mut Scene,
        prepared: &Prepared,
        lacks: &Applied,
        report: &mut Report,
    ) -> Answer {
        let answer = if self.shortage == Shortage::ClientGone {
            let begun = Instant::now();
            if self.operation.run_and_leave(scene, prepared) {
                report.proof = Some("closed before the answer".to_owned());
            }
            Answer { failure: Some("has left".to_owned()), after: begun.elapsed() }
        } else {
            self.operation.run(scene, prepared, lacks)
        };
        report.answer = answer.failure.clone().unwrap_or_else(|| "ok".to_owned());
        report.answer_ms = millis(answer.after);
        answer
    }

    /// Ends `web` while the shortage lasts, waits for the exits, lifts the shortage, and waits on.
    fn end(
        self,
        scene: &mut Scene,
        mut lacks: Applied,
        answer: &Answer,
        began: Instant,
        report: &mut Report,
    ) -> Exit {
        let is_paused = self.operation == Operation::Pause
            && (answer.failure.is_none() || self.shortage == Shortage::ClientGone);
        let resumed = is_paused && scene.task.resume(WEB).is_ok();
        if self.operation != Operation::DeleteVerb {
            scene.init.kill();
        }
        let is_end =
            matches!(self.operation, Operation::InitExit | Operation::Kill | Operation::DeleteVerb);
        let begun = if is_end { began } else { Instant::now() };
        let seen = |scene: &Scene| self.has_exits(scene);
        if lacks.ended_early() {
            report.proof.iter_mut().for_each(|proof| proof.push_str(", until the shim asked"));
        }
        if scene.events.is_some() && scene.wait(AT_ONCE, seen).is_some() {
            let exit = Exit::During(begun.elapsed());
            lacks.lift(scene);
            return exit;
        }
        lacks.lift(scene);
        if scene.events.is_none() {
            scene.subscribe();
        }
        let lifted = Instant::now();
        // A process in a frozen cgroup cannot die.
        if is_paused && !resumed {
            let _ = scene.task.resume(WEB);
        }
        let replay = if self.restarts_containerd() { REPLAY } else { Duration::ZERO };
        let within = AFTERWARDS + replay;
        match scene.wait(within, seen) {
            Some(_) => Exit::Afterwards(lifted.elapsed()),
            None => {
                report.wrong.push(format!("no exit within {} s", within.as_secs()));
                Exit::Lost
            }
        }
    }

    fn restarts_containerd(self) -> bool {
        self.shortage == Shortage::ContainerdAway
            || self.operation == Operation::Restart
            || (self.operation == Operation::DeleteVerb && self.shortage == Shortage::ClientGone)
    }

    /// Whether every exit has come that must come.
    fn has_exits(self, scene: &Scene) -> bool {
        // containerd reports the exit while it starts, when it has no subscriber yet.
        if self.operation == Operation::DeleteVerb && self.restarts_containerd() {
            return scene.status().is_none() && !scene.init.lives();
        }
        let exec_ended =
            self.operation != Operation::ExecExit || scene.exit_of(WEB, PROBE).is_some();
        exec_ended && scene.exit_of(WEB, WEB).is_some()
    }

    fn judge_exit(self, scene: &Scene, exit: &Exit, report: &mut Report) {
        report.exit = match exit {
            Exit::During(after) => format!("{} ms", after.as_millis()),
            Exit::Afterwards(after) => format!("{} ms after the end", after.as_millis()),
            Exit::Lost => "lost".to_owned(),
        };
        let status = scene.exit_of(WEB, WEB).map(|event| event.number("exit_status"));
        if let Some(status) = status.filter(|status| *status != 137) {
            report.wrong.push(format!("exit status {status}"));
        }
    }

    fn judge_states(self, states: Option<States>, report: &mut Report) {
        let Some(states) = states else { return };
        report.states = states.count;
        report.state_median_ms = millis(states.median);
        report.state_worst_ms = millis(states.worst);
        report.wrong.extend(states.wrong);
    }

    /// Removes everything as an orchestrator does, and reports what is left.
    fn clean_up(self, scene: &Scene, report: &mut Report) {
        self.remove_second(scene, report);
        let removed = scene.wait(scene.rest(CLIENT), |scene| {
            let remove = ["task", "rm", "--force", WEB];
            let _ = scene.node.program(&remove).within(scene.rest(CLIENT)).run_or_kill();
            scene.status().is_none()
        });
        if removed.is_none() {
            report.wrong.push("the task cannot be removed".to_owned());
        }
        let _ =
            scene.node.program(&["container", "rm", WEB]).within(scene.rest(CLIENT)).run_or_kill();
        if scene.wait(scene.rest(GONE), |scene| scene.leftovers().is_empty()).is_none() {
            report.left = scene.leftovers();
            report.wrong.push(format!("{} things left", report.left.len()));
        }
    }

    /// Kills and deletes the second container, if there is one.
    fn remove_second(self, scene: &Scene, report: &mut Report) {
        let has_second =
            [Operation::Create, Operation::Start, Operation::Delete].contains(&self.operation);
        if !has_second {
            return;
        }
        let task = scene.task.with_deadline(CALL);
        let begun = Instant::now();
        loop {
            let _ = task.kill(SECOND, "", 9);
            let deleted = task.delete(SECOND, "");
            match deleted {
                Ok(_) => break,
                Err(failure) if is_absent(&failure.message) => break,
                Err(failure) if begun.elapsed() > scene.rest(CALL) => {
                    report.wrong.push(format!("the second: {}", failure.message));
                    break;
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        let _ = std::fs::remove_dir_all(scene.bundle_of_second());
    }
}

/// Whether an error says that there is no such container.
fn is_absent(message: &str) -> bool {
    ["not found", "not created", "does not exist"].iter().any(|text| message.contains(text))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
