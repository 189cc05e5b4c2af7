use std::time::SystemTime;

use proptest::prelude::*;

use super::{
    Denied,
    container::{self, Effect, Input, State},
    exec,
};
use crate::model::{Ended, Exit};

const EXIT: Exit = Exit { timestamp: SystemTime::UNIX_EPOCH, pid: 42, ended: Ended::Code(9) };

/// The model: what a client knows of a container from the events that it has received.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct ClientView {
    started: bool,
    paused: bool,
    exited: bool,
    deleted: bool,
}

impl ClientView {
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
            Effect::None
            | Effect::Proceed
            | Effect::Abort
            | Effect::JoinDelete
            | Effect::End(_)
            | Effect::Thaw => {}
        }
    }
}

fn inputs() -> impl Strategy<Value = Input> {
    prop_oneof![
        any::<bool>().prop_map(|restore| Input::Created { restore }),
        Just(Input::Start),
        any::<bool>().prop_map(|ok| Input::StartEnded { ok }),
        Just(Input::Pause),
        any::<bool>().prop_map(|ok| Input::PauseEnded { ok }),
        Just(Input::Resume),
        any::<bool>().prop_map(|ok| Input::ResumeEnded { ok }),
        any::<bool>().prop_map(|all| Input::Kill { all }),
        Just(Input::AddExec),
        Just(Input::StartExec),
        Just(Input::Update),
        Just(Input::Checkpoint),
        Just(Input::Exited(EXIT)),
        Just(Input::Settled),
        Just(Input::Delete),
        any::<bool>().prop_map(|ok| Input::DeleteEnded { ok }),
    ]
}

fn is_request(input: Input) -> bool {
    matches!(
        input,
        Input::Start
            | Input::Pause
            | Input::Resume
            | Input::Kill { .. }
            | Input::AddExec
            | Input::StartExec
            | Input::Update
            | Input::Checkpoint
            | Input::Delete
    )
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
            match container::step(state, input) {
                Ok((next, effect)) => {
                    view.apply(effect);
                    state = next;
                }
                Err(denied) => prop_assert!(
                    is_request(input),
                    "{input:?} is not a request, but got {denied:?}"
                ),
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
            Input::Created { restore: false },
            Input::Exited(EXIT),
            Input::StartEnded { ok: true },
            Input::PauseEnded { ok: true },
            Input::ResumeEnded { ok: true },
            Input::Settled,
        ];
        for input in sequence.into_iter().chain(finish) {
            if let Ok((next, effect)) = container::step(state, input) {
                view.apply(effect);
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
        for input in sequence {
            match container::step(state, input) {
                Ok((next, _)) => state = next,
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
        (State::Running, Input::Start, "cannot start a running process"),
        (stopped, Input::Start, "cannot start a stopped process"),
        (created, Input::Pause, "cannot pause task in created state"),
        (stopped, Input::Pause, "cannot pause a stopped container"),
        (State::Paused, Input::Pause, "cannot pause a paused container"),
        (State::Running, Input::Resume, "cannot resume a running process"),
        (State::Paused, Input::AddExec, "cannot exec in a paused state"),
        (stopped, Input::AddExec, "cannot exec in a stopped state"),
        (State::Created { restore: true }, Input::AddExec, "cannot exec in a created state"),
        (created, Input::Checkpoint, "cannot checkpoint a task in created state"),
        (stopped, Input::Update, "cannot update a stopped container"),
        (stopped, Input::Kill { all: false }, "process already finished"),
        (State::Creating, Input::Start, "container not created"),
    ];
    for (state, input, text) in expected {
        assert_eq!(
            container::step(state, input).unwrap_err().to_string(),
            text,
            "{state:?} {input:?}"
        );
    }
}

/// Check that a container is thawed if its init dies while it is frozen. Otherwise the rest of the
/// container could not die.
#[test]
fn a_frozen_container_whose_init_died_is_thawed() {
    for state in [State::Paused, State::Pausing] {
        let (next, effect) = container::step(state, Input::Exited(EXIT)).unwrap();
        assert_eq!((next, effect), (State::Ending { exit: EXIT }, Effect::ThawThenEnd(EXIT)));
    }
    let (_, effect) =
        container::step(State::Ending { exit: EXIT }, Input::PauseEnded { ok: true }).unwrap();
    assert_eq!(effect, Effect::Thaw, "the freeze may have taken effect after the first thaw");
}

/// Check that an exit that is reaped before start has returned is reported after the start.
#[test]
fn an_exit_before_start_returns_is_reported_after_the_start() {
    let starting = State::Starting { restore: false, early_exit: None };
    let (state, effect) = container::step(starting, Input::Exited(EXIT)).unwrap();
    assert_eq!(effect, Effect::None);
    let (state, effect) = container::step(state, Input::StartEnded { ok: true }).unwrap();
    assert_eq!((state, effect), (State::Ending { exit: EXIT }, Effect::ReportStartedThenEnd(EXIT)));
}

fn exec_inputs() -> impl Strategy<Value = exec::Input> {
    prop_oneof![
        Just(exec::Input::Start),
        Just(exec::Input::Started { pid: 42 }),
        Just(exec::Input::StartFailed),
        Just(exec::Input::Kill),
        Just(exec::Input::Resize),
        Just(exec::Input::Exited(EXIT)),
        Just(exec::Input::Delete),
    ]
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
            let Ok((next, effect)) = exec::step(state, input) else { continue };
            match effect {
                exec::Effect::ReportStarted => started += 1,
                exec::Effect::ReportExit(_) => exited += 1,
                exec::Effect::None
                | exec::Effect::Proceed
                | exec::Effect::AbortStart
                | exec::Effect::JoinDelete => {}
            }
            state = next;
            prop_assert!(started <= 1 && exited <= started);
            prop_assert_eq!(exited == 1, state.exit().is_some());
            prop_assert_eq!(started == 1, state.pid().is_some());
        }
    }
}
