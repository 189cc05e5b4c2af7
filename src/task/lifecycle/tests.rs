use std::time::SystemTime;

use proptest::prelude::*;

use super::{
    Denied,
    container::{self, Effect, Input, State},
    exec,
};
use crate::model::Exit;

const EXIT: Exit = Exit { timestamp: SystemTime::UNIX_EPOCH, pid: 42, status: 9 };

/// What a client may believe of a container, from the events that it was told: the small model.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Told {
    started: bool,
    paused: bool,
    exited: bool,
    deleted: bool,
}

impl Told {
    /// Takes the events of an effect, in the order in which they are told, and checks each.
    fn take(&mut self, effect: Effect) {
        assert!(!self.deleted || matches!(effect, Effect::None), "{effect:?} after the delete");
        match effect {
            Effect::TellStarted | Effect::TellStartedThenEnd(_) => {
                assert!(!self.started && !self.exited, "started twice, or after the exit");
                self.started = true;
            }
            Effect::TellPaused => {
                assert!(self.started && !self.paused && !self.exited);
                self.paused = true;
            }
            Effect::TellResumed => {
                assert!(self.paused && !self.exited);
                self.paused = false;
            }
            Effect::TellExit(exit) => {
                assert!(!self.exited, "the exit is told once");
                assert_eq!(exit, EXIT, "as it was reaped");
                self.exited = true;
            }
            Effect::TellDeleted => self.deleted = true,
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

    /// Check that whatever happens in whatever order, clients are told a story that can be true:
    /// start before exit, exit once and as it was, delete last.
    #[test]
    fn any_sequence_tells_a_true_story(sequence in proptest::collection::vec(inputs(), 0..60)) {
        let mut state = State::Creating;
        let mut told = Told::default();
        for input in sequence {
            match container::step(state, input) {
                Ok((next, effect)) => {
                    told.take(effect);
                    state = next;
                }
                Err(denied) => prop_assert!(is_request(input), "{input:?} is no request, yet {denied:?}"),
            }
            prop_assert_eq!(told.exited, state.exit().is_some() || (told.exited && state == State::Deleted));
            prop_assert_eq!(told.deleted, state == State::Deleted);
            let runs = matches!(state, State::Running | State::Created { .. });
            prop_assert!(!told.paused || told.exited || !runs, "told as paused, yet it runs");
        }
    }

    /// Check that no exit is swallowed: from any state of a living container, an exit is told as
    /// soon as the operation under way has ended and the execs have gone.
    #[test]
    fn an_exit_is_always_told_in_the_end(sequence in proptest::collection::vec(inputs(), 0..40)) {
        let mut state = State::Creating;
        let mut told = Told::default();
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
                told.take(effect);
                state = next;
            }
        }
        prop_assert!(told.exited || state == State::Deleted, "{:?}", state);
    }

    /// Check that a request which must wait always can: the operation that it waits for ends in a
    /// state that is not changing.
    #[test]
    fn whoever_is_told_busy_is_answered_after_the_operation(sequence in proptest::collection::vec(inputs(), 0..40)) {
        let mut state = State::Creating;
        for input in sequence {
            match container::step(state, input) {
                Ok((next, _)) => state = next,
                Err(Denied::Busy) => prop_assert!(state.is_changing(), "{state:?} makes {input:?} wait for nothing"),
                Err(_) => {}
            }
        }
    }
}

/// Check that the refusals which clients match on have the Go shim's words.
#[test]
fn refusals_have_the_words_of_the_go_shim() {
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
    for (state, input, words) in expected {
        assert_eq!(
            container::step(state, input).unwrap_err().to_string(),
            words,
            "{state:?} {input:?}"
        );
    }
}

/// Check that an init which dies while it is frozen is thawed: nothing in it could die otherwise.
#[test]
fn a_frozen_container_whose_init_died_is_thawed() {
    for state in [State::Paused, State::Pausing] {
        let (next, effect) = container::step(state, Input::Exited(EXIT)).unwrap();
        assert_eq!((next, effect), (State::Ending { exit: EXIT }, Effect::ThawThenEnd(EXIT)));
    }
    let (_, effect) =
        container::step(State::Ending { exit: EXIT }, Input::PauseEnded { ok: true }).unwrap();
    assert_eq!(effect, Effect::Thaw, "the freeze may have taken hold after the first thaw");
}

/// Check that an exit which comes before start has returned is told after the start.
#[test]
fn an_exit_before_start_returns_is_told_after_it() {
    let starting = State::Starting { restore: false, early: None };
    let (state, effect) = container::step(starting, Input::Exited(EXIT)).unwrap();
    assert_eq!(effect, Effect::None);
    let (state, effect) = container::step(state, Input::StartEnded { ok: true }).unwrap();
    assert_eq!((state, effect), (State::Ending { exit: EXIT }, Effect::TellStartedThenEnd(EXIT)));
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

    /// Check that an exec is told as started before it is told as ended, and each once.
    #[test]
    fn any_sequence_of_an_exec_tells_a_true_story(sequence in proptest::collection::vec(exec_inputs(), 0..40)) {
        let mut state = exec::State::Added;
        let (mut started, mut exited) = (0, 0);
        for input in sequence {
            let Ok((next, effect)) = exec::step(state, input) else { continue };
            match effect {
                exec::Effect::TellStarted => started += 1,
                exec::Effect::TellExit(_) => exited += 1,
                exec::Effect::None | exec::Effect::Proceed | exec::Effect::AbortStart | exec::Effect::JoinDelete => {}
            }
            state = next;
            prop_assert!(started <= 1 && exited <= started);
            prop_assert_eq!(exited == 1, state.exit().is_some());
            prop_assert_eq!(started == 1, state.pid() != 0);
        }
    }
}
