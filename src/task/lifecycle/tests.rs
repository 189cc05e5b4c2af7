use std::time::SystemTime;

use proptest::prelude::*;

use super::{
    Denied,
    container::{self, Delete, Effect, Fact, Kill, Request, State},
    exec,
};
use crate::model::{Ended, Exit};

const EXIT: Exit = Exit { timestamp: SystemTime::UNIX_EPOCH, pid: 42, ended: Ended::Code(9) };

/// A request or a fact, for sequences of both.
#[derive(Debug, Clone, Copy)]
enum Input {
    Request(Request),
    Kill { signal: u32, all: bool },
    Delete,
    Fact(Fact),
}

/// The model: what a client knows of a container from the events that it has received.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct ClientView {
    started: bool,
    paused: bool,
    exited: bool,
    deleted: bool,
}

impl ClientView {
    /// Passes an input to the lifecycle and applies what follows. Returns the next state.
    fn step(&mut self, state: State, input: Input) -> Result<State, Denied> {
        let next = match input {
            Input::Request(request) => container::allow(state, request)?,
            Input::Kill { signal, all } => match container::allow_kill(state, signal, all)? {
                Kill::Signal | Kill::Abort => state,
            },
            Input::Delete => match container::allow_delete(state)? {
                Delete::Begin(next) => next,
                Delete::AbortCreate | Delete::Join => state,
            },
            Input::Fact(fact) => {
                let (next, effect) = container::advance(state, fact);
                self.apply(effect);
                return Ok(next);
            }
        };
        assert!(!self.deleted, "{input:?} is allowed after the delete");
        Ok(next)
    }

    /// Applies the events of an effect, in the order in which they are reported, and checks each.
    fn apply(&mut self, effect: Effect) {
        assert!(!self.deleted || matches!(effect, Effect::None), "{effect:?} after the delete");
        match effect {
            Effect::ReportStarted | Effect::ReportStartedThenEnd(_) => {
                assert!(!self.started && !self.exited, "started twice, or after the exit");
                self.started = true;
            }
            Effect::ReportPaused => {
                assert!(self.started && !self.paused && !self.exited);
                self.paused = true;
            }
            Effect::ReportResumed => {
                assert!(self.paused && !self.exited);
                self.paused = false;
            }
            Effect::ReportExit(exit) => {
                assert!(!self.exited, "the exit is reported once");
                assert_eq!(exit, EXIT, "the exit is reported as it was reaped");
                self.exited = true;
            }
            Effect::ReportDeleted => self.deleted = true,
            Effect::ThawThenEnd(_) => assert!(!self.exited),
            Effect::None | Effect::End(_) | Effect::Thaw => {}
        }
    }
}

fn inputs() -> impl Strategy<Value = Input> {
    prop_oneof![
        Just(Input::Request(Request::Start)),
        Just(Input::Request(Request::Pause)),
        Just(Input::Request(Request::Resume)),
        (1..65_u32, any::<bool>()).prop_map(|(signal, all)| Input::Kill { signal, all }),
        Just(Input::Request(Request::AddExec)),
        Just(Input::Request(Request::StartExec)),
        Just(Input::Request(Request::Update)),
        Just(Input::Request(Request::Checkpoint)),
        Just(Input::Delete),
        any::<bool>().prop_map(|restore| Input::Fact(Fact::Created { restore })),
        any::<bool>().prop_map(|ok| Input::Fact(Fact::StartEnded { ok })),
        any::<bool>().prop_map(|ok| Input::Fact(Fact::PauseEnded { ok })),
        any::<bool>().prop_map(|ok| Input::Fact(Fact::ResumeEnded { ok })),
        Just(Input::Fact(Fact::Exited(EXIT))),
        Just(Input::Fact(Fact::Settled)),
        any::<bool>().prop_map(|ok| Input::Fact(Fact::DeleteEnded { ok })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    /// Check that clients receive consistent events for any sequence of inputs: the start before
    /// the exit, the exit once and as it was reaped, the delete last.
    #[test]
    fn any_sequence_of_inputs_gives_consistent_events(
        sequence in proptest::collection::vec(inputs(), 0..60),
    ) {
        let mut state = State::Creating;
        let mut view = ClientView::default();
        for input in sequence {
            if let Ok(next) = view.step(state, input) {
                state = next;
            }
            // `Deleted` carries no exit, so there the model alone knows whether one was reported.
            let has_exit = state.exit().is_some() || (view.exited && state == State::Deleted);
            prop_assert_eq!(view.exited, has_exit);
            prop_assert_eq!(view.deleted, state == State::Deleted);
            let runs = matches!(state, State::Running | State::Created { .. });
            prop_assert!(!view.paused || view.exited || !runs, "reported as paused, but it runs");
        }
    }

    /// Check that no exit is lost: from any state of a living container, the exit is reported as
    /// soon as the operation in progress has ended and no exec is pending.
    #[test]
    fn an_exit_is_always_reported_in_the_end(
        sequence in proptest::collection::vec(inputs(), 0..40),
    ) {
        let mut state = State::Creating;
        let mut view = ClientView::default();
        let finish = [
            Fact::Created { restore: false },
            Fact::Exited(EXIT),
            Fact::StartEnded { ok: true },
            Fact::PauseEnded { ok: true },
            Fact::ResumeEnded { ok: true },
            Fact::Settled,
        ];
        for input in sequence.into_iter().chain(finish.map(Input::Fact)) {
            if let Ok(next) = view.step(state, input) {
                state = next;
            }
        }
        prop_assert!(view.exited || state == State::Deleted, "{:?}", state);
    }

    /// Check that a request is made to wait only while an operation is in progress: the end of that
    /// operation lets it be retried.
    #[test]
    fn a_request_waits_only_while_an_operation_is_in_progress(
        sequence in proptest::collection::vec(inputs(), 0..40),
    ) {
        let mut state = State::Creating;
        let mut view = ClientView::default();
        for input in sequence {
            match view.step(state, input) {
                Ok(next) => state = next,
                Err(Denied::Busy) => prop_assert!(
                    state.is_changing(),
                    "{input:?} waits in {state:?}, where no operation is in progress"
                ),
                Err(_) => {}
            }
        }
    }
}

/// Check that refusals have the texts of the Go shim, which clients match on.
#[test]
fn refusals_have_the_texts_of_the_go_shim() {
    let created = State::Created { restore: false };
    let stopped = State::Stopped { exit: EXIT };
    let expected = [
        (State::Running, Input::Delete, "cannot delete a running process"),
        (State::Paused, Input::Delete, "cannot delete a paused process"),
        (State::Running, Input::Request(Request::Start), "cannot start a running process"),
        (stopped, Input::Request(Request::Start), "cannot start a stopped process"),
        (created, Input::Request(Request::Pause), "cannot pause task in created state"),
        (stopped, Input::Request(Request::Pause), "cannot pause a stopped container"),
        (State::Paused, Input::Request(Request::Pause), "cannot pause a paused container"),
        (State::Running, Input::Request(Request::Resume), "cannot resume a running process"),
        (State::Paused, Input::Request(Request::AddExec), "cannot exec in a paused state"),
        (stopped, Input::Request(Request::AddExec), "cannot exec in a stopped state"),
        (
            State::Created { restore: true },
            Input::Request(Request::AddExec),
            "cannot exec in a created state",
        ),
        (created, Input::Request(Request::Checkpoint), "cannot checkpoint a task in created state"),
        (stopped, Input::Request(Request::Update), "cannot update a stopped container"),
        (stopped, Input::Kill { signal: 9, all: false }, "process already finished"),
        (State::Creating, Input::Request(Request::Start), "container not created"),
    ];
    for (state, input, text) in expected {
        let denied = ClientView::default().step(state, input).unwrap_err();
        assert_eq!(denied.to_string(), text, "{state:?} {input:?}");
    }
}

/// Check that a container is thawed if its init dies while it is frozen. Otherwise the rest of the
/// container could not die.
#[test]
fn a_frozen_container_whose_init_died_is_thawed() {
    for state in [State::Paused, State::Pausing] {
        let (next, effect) = container::advance(state, Fact::Exited(EXIT));
        assert_eq!((next, effect), (State::Ending { exit: EXIT }, Effect::ThawThenEnd(EXIT)));
    }
    let (_, effect) =
        container::advance(State::Ending { exit: EXIT }, Fact::PauseEnded { ok: true });
    assert_eq!(effect, Effect::Thaw, "the freeze may have taken effect after the first thaw");
}

/// Check that an exit that is reaped before start has returned is reported after the start.
#[test]
fn an_exit_before_start_returns_is_reported_after_the_start() {
    let starting = State::Starting { restore: false, early_exit: None };
    let (state, effect) = container::advance(starting, Fact::Exited(EXIT));
    assert_eq!(effect, Effect::None);
    let (state, effect) = container::advance(state, Fact::StartEnded { ok: true });
    assert_eq!((state, effect), (State::Ending { exit: EXIT }, Effect::ReportStartedThenEnd(EXIT)));
}

/// A request to an exec, or a fact, for sequences of both.
#[derive(Debug, Clone, Copy)]
enum ExecInput {
    Request(exec::Request),
    Kill,
    Delete,
    Fact(exec::Fact),
}

fn exec_inputs() -> impl Strategy<Value = ExecInput> {
    prop_oneof![
        Just(ExecInput::Request(exec::Request::Start)),
        Just(ExecInput::Kill),
        Just(ExecInput::Request(exec::Request::Resize)),
        Just(ExecInput::Delete),
        Just(ExecInput::Fact(exec::Fact::Started { pid: 42 })),
        Just(ExecInput::Fact(exec::Fact::StartFailed)),
        Just(ExecInput::Fact(exec::Fact::Exited(EXIT))),
    ]
}

/// Check that only a signal that asks a process to end aborts a create, a restore or a start in
/// progress.
#[test]
fn only_signals_that_end_a_process_abort_what_is_in_progress() {
    let restoring = State::Starting { restore: true, early_exit: None };
    for signal in 0..=64 {
        let ends = [2, 3, 9, 15].contains(&signal);
        let aborts = |state| container::allow_kill(state, signal, false) == Ok(Kill::Abort);
        assert_eq!(aborts(State::Creating), ends, "{signal}");
        assert_eq!(aborts(restoring), ends, "{signal}");
        let exec = exec::allow_kill(exec::State::Starting, signal);
        assert_eq!(exec == Ok(exec::Kill::AbortStart), ends, "{signal}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    /// Check that the start of an exec is reported before its exit, and each once.
    #[test]
    fn any_sequence_of_inputs_to_an_exec_gives_consistent_events(
        sequence in proptest::collection::vec(exec_inputs(), 0..40),
    ) {
        let mut state = exec::State::Added;
        let (mut started, mut exited) = (0, 0);
        for input in sequence {
            match input {
                ExecInput::Request(request) => {
                    state = exec::allow(state, request).unwrap_or(state);
                }
                ExecInput::Kill => {
                    if let Ok(exec::Kill::Signal { pid }) = exec::allow_kill(state, 9) {
                        prop_assert_eq!((started, exited, pid), (1, 0, EXIT.pid));
                    }
                }
                ExecInput::Delete => {
                    if let Ok(exec::Delete::Begin(next)) = exec::allow_delete(state) {
                        state = next;
                    }
                }
                ExecInput::Fact(fact) => {
                    let (next, effect) = exec::advance(state, fact);
                    match effect {
                        exec::Effect::ReportStarted { .. } => started += 1,
                        exec::Effect::ReportExit(_) => exited += 1,
                        exec::Effect::None => {}
                    }
                    state = next;
                }
            }
            prop_assert!(started <= 1 && exited <= started);
            prop_assert_eq!(exited == 1, state.exit().is_some());
            prop_assert_eq!(started == 1, state.pid().is_some());
        }
    }
}
