//! The life of a container, which is the life of its init.

use super::{Denied, cannot};
use crate::model::Exit;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The runtime's create is under way.
    Creating,
    /// Init exists and waits for start. With `restore`, nothing exists yet: start restores it.
    Created {
        /// Whether start is the restore of a checkpoint.
        restore: bool,
    },
    /// The runtime's start (or restore) is under way.
    Starting {
        /// Whether it is a restore.
        restore: bool,
        /// Init's exit, if it came before start has returned.
        early: Option<Exit>,
    },
    /// Init runs the user's program.
    Running,
    /// The runtime's pause is under way.
    Pausing,
    /// Every process is frozen.
    Paused,
    /// The runtime's resume is under way.
    Resuming,
    /// Init has exited; exits of execs are still to be told.
    Ending {
        /// Init's exit.
        exit: Exit,
    },
    /// Init has exited and everybody has been told.
    Stopped {
        /// Init's exit.
        exit: Exit,
    },
    /// The runtime's delete is under way.
    Deleting {
        /// Init's exit; none for a container that was never started.
        exit: Option<Exit>,
        /// Whether it is an unstarted restore, should the delete fail.
        restore: bool,
    },
    /// Gone.
    Deleted,
}

/// What happens to a container: a request, the end of an operation, or an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The runtime's create ended well.
    Created {
        /// Whether start will be the restore of a checkpoint.
        restore: bool,
    },
    /// A request.
    Start,
    /// The runtime's start ended.
    StartEnded {
        /// Whether it ended well.
        ok: bool,
    },
    /// A request.
    Pause,
    /// The runtime's pause ended.
    PauseEnded {
        /// Whether it ended well.
        ok: bool,
    },
    /// A request.
    Resume,
    /// The runtime's resume ended.
    ResumeEnded {
        /// Whether it ended well.
        ok: bool,
    },
    /// A request to signal init, or all processes.
    Kill {
        /// Whether every process is meant.
        all: bool,
    },
    /// A request to add an exec.
    AddExec,
    /// A request to start an added exec.
    StartExec,
    /// A request for new limits.
    Update,
    /// A request for an image.
    Checkpoint,
    /// Init was reaped.
    Exited(Exit),
    /// No exec is left whose exit has to be told before init's.
    Settled,
    /// A request.
    Delete,
    /// The runtime's delete ended.
    DeleteEnded {
        /// Whether it ended well.
        ok: bool,
    },
}

/// What follows from an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing to do: go on.
    None,
    /// Do what was asked for: it is allowed.
    Proceed,
    /// End the create or the restore that is under way.
    Abort,
    /// Answer when the delete that is under way has ended.
    JoinDelete,
    /// Tell that it was started.
    TellStarted,
    /// Tell that it was started, then act on its early exit as on [`Effect::End`].
    TellStartedThenEnd(Exit),
    /// Init has ended: kill what it leaves behind, then wait for the exits of execs.
    End(Exit),
    /// As [`Effect::End`], but the container is frozen: thaw it, or nothing in it can die.
    ThawThenEnd(Exit),
    /// A freeze or thaw ended after its init had: make sure that it is thawed.
    Thaw,
    /// Tell that it was paused.
    TellPaused,
    /// Tell that it was resumed.
    TellResumed,
    /// Tell init's exit.
    TellExit(Exit),
    /// Tell that it was deleted.
    TellDeleted,
}

/// The next state and what follows.
pub type Next = (State, Effect);

/// The one transition function: every input in every state.
///
/// # Errors
///
/// [`Denied`] for a request that the state does not allow. What is no request is never refused:
/// an end or an exit that does not fit leaves the state as it is.
pub fn step(state: State, input: Input) -> Result<Next, Denied> {
    use State::{
        Created, Creating, Deleted, Deleting, Ending, Paused, Pausing, Resuming, Running, Starting,
        Stopped,
    };
    let stay = |effect| Ok((state, effect));
    match (state, input) {
        // ── create ──
        (Creating, Input::Created { restore }) => Ok((Created { restore }, Effect::None)),

        // ── start ──
        (Created { restore }, Input::Start) => {
            Ok((Starting { restore, early: None }, Effect::Proceed))
        }
        (Running, Input::Start) => Err(cannot("start", "a running process")),
        (Paused, Input::Start) => Err(cannot("start", "a paused process")),
        (Ending { .. } | Stopped { .. }, Input::Start) => Err(cannot("start", "a stopped process")),
        (Starting { early: None, .. }, Input::StartEnded { ok: true }) => {
            Ok((Running, Effect::TellStarted))
        }
        (Starting { early: Some(exit), .. }, Input::StartEnded { ok: true }) => {
            Ok((Ending { exit }, Effect::TellStartedThenEnd(exit)))
        }
        (Starting { restore, early: None }, Input::StartEnded { ok: false }) => {
            Ok((Created { restore }, Effect::None))
        }
        (Starting { early: Some(exit), .. }, Input::StartEnded { ok: false }) => {
            Ok((Ending { exit }, Effect::End(exit)))
        }

        // ── pause and resume ──
        (Running, Input::Pause) => Ok((Pausing, Effect::Proceed)),
        (Created { .. }, Input::Pause) => Err(cannot("pause", "task in created state")),
        (Paused, Input::Pause) => Err(cannot("pause", "a paused container")),
        (Ending { .. } | Stopped { .. }, Input::Pause) => {
            Err(cannot("pause", "a stopped container"))
        }
        (Pausing, Input::PauseEnded { ok: true }) => Ok((Paused, Effect::TellPaused)),
        (Pausing, Input::PauseEnded { ok: false }) => Ok((Running, Effect::None)),
        (Paused, Input::Resume) => Ok((Resuming, Effect::Proceed)),
        (Created { .. }, Input::Resume) => Err(cannot("resume", "task in created state")),
        (Running, Input::Resume) => Err(cannot("resume", "a running process")),
        (Ending { .. } | Stopped { .. }, Input::Resume) => {
            Err(cannot("resume", "a stopped container"))
        }
        (Resuming, Input::ResumeEnded { ok: true }) => Ok((Running, Effect::TellResumed)),
        (Resuming, Input::ResumeEnded { ok: false }) => Ok((Paused, Effect::None)),
        // Its init ended meanwhile. The freeze may have taken hold after the thaw of that end.
        (
            Ending { .. } | Stopped { .. } | Deleting { .. },
            Input::PauseEnded { .. } | Input::ResumeEnded { ok: false },
        ) => stay(Effect::Thaw),

        // ── kill ──
        (Creating | Starting { restore: true, .. }, Input::Kill { .. }) => stay(Effect::Abort),
        (
            Created { .. }
            | Starting { restore: false, .. }
            | Running
            | Pausing
            | Paused
            | Resuming,
            Input::Kill { .. },
        ) => stay(Effect::Proceed),
        // With a shared pid namespace others live on; the runtime knows them by cgroup.
        (Ending { .. } | Stopped { .. }, Input::Kill { all: true }) => stay(Effect::Proceed),
        (Ending { .. } | Stopped { .. } | Deleting { .. }, Input::Kill { .. }) => {
            Err(Denied::Finished)
        }

        // ── execs ──
        (
            Created { restore: false } | Starting { .. } | Running | Ending { .. },
            Input::AddExec,
        ) => stay(Effect::Proceed),
        (Created { restore: true }, Input::AddExec) => Err(cannot("exec", "in a created state")),
        (Paused, Input::AddExec) => Err(cannot("exec", "in a paused state")),
        (Stopped { .. } | Deleting { .. }, Input::AddExec) => {
            Err(cannot("exec", "in a stopped state"))
        }
        (Created { restore: false } | Running | Paused, Input::StartExec) => stay(Effect::Proceed),
        (Created { restore: true }, Input::StartExec) => Err(cannot("exec", "in a created state")),
        (Ending { .. } | Stopped { .. } | Deleting { .. }, Input::StartExec) => {
            Err(Denied::InitNotRunning)
        }

        // ── limits and images ──
        (Created { .. } | Running | Paused | Ending { .. }, Input::Update) => stay(Effect::Proceed),
        (Stopped { .. } | Deleting { .. }, Input::Update) => {
            Err(cannot("update", "a stopped container"))
        }
        (Running | Paused, Input::Checkpoint) => stay(Effect::Proceed),
        (Created { .. }, Input::Checkpoint) => Err(cannot("checkpoint", "a task in created state")),
        (Ending { .. } | Stopped { .. } | Deleting { .. }, Input::Checkpoint) => {
            Err(cannot("checkpoint", "a stopped container"))
        }

        // ── the end of init ──
        (Created { .. } | Running | Resuming, Input::Exited(exit)) => {
            Ok((Ending { exit }, Effect::End(exit)))
        }
        (Paused | Pausing, Input::Exited(exit)) => Ok((Ending { exit }, Effect::ThawThenEnd(exit))),
        (Starting { restore, early: None }, Input::Exited(exit)) => {
            Ok((Starting { restore, early: Some(exit) }, Effect::None))
        }
        // Deleted while created: the runtime's delete kills init, and its exit is told like any.
        (Deleting { exit: None, restore }, Input::Exited(exit)) => {
            Ok((Deleting { exit: Some(exit), restore }, Effect::TellExit(exit)))
        }
        (Ending { exit }, Input::Settled) => Ok((Stopped { exit }, Effect::TellExit(exit))),

        // ── delete ──
        (Creating, Input::Delete) => stay(Effect::Abort),
        (Created { restore }, Input::Delete) => {
            Ok((Deleting { exit: None, restore }, Effect::Proceed))
        }
        (Stopped { exit }, Input::Delete) => {
            Ok((Deleting { exit: Some(exit), restore: false }, Effect::Proceed))
        }
        (Running | Ending { .. }, Input::Delete) => Err(cannot("delete", "a running process")),
        (Paused, Input::Delete) => Err(cannot("delete", "a paused process")),
        (Deleting { .. }, Input::Delete) => stay(Effect::JoinDelete),
        (Deleting { .. }, Input::DeleteEnded { ok: true }) => Ok((Deleted, Effect::TellDeleted)),
        (Deleting { exit: Some(exit), .. }, Input::DeleteEnded { ok: false }) => {
            Ok((Stopped { exit }, Effect::None))
        }
        (Deleting { exit: None, restore }, Input::DeleteEnded { ok: false }) => {
            Ok((Created { restore }, Effect::None))
        }

        // ── requests that wait for the operation under way ──
        (
            Starting { .. } | Pausing | Resuming,
            Input::Start
            | Input::Pause
            | Input::Resume
            | Input::Update
            | Input::Checkpoint
            | Input::StartExec
            | Input::Delete,
        )
        | (Pausing | Resuming, Input::AddExec)
        | (Deleting { .. }, Input::Start | Input::Pause | Input::Resume) => Err(Denied::Busy),

        // ── requests to what is not there ──
        (
            Creating | Deleted,
            Input::Start
            | Input::Pause
            | Input::Resume
            | Input::AddExec
            | Input::StartExec
            | Input::Update
            | Input::Checkpoint,
        )
        | (Deleted, Input::Kill { .. } | Input::Delete) => Err(Denied::NotCreated),

        // ── ends and exits that do not fit: late, or told twice ──
        (
            Created { .. }
            | Starting { .. }
            | Running
            | Pausing
            | Paused
            | Resuming
            | Ending { .. }
            | Stopped { .. }
            | Deleting { .. }
            | Deleted,
            Input::Created { .. },
        )
        | (
            Creating
            | Created { .. }
            | Running
            | Pausing
            | Paused
            | Resuming
            | Ending { .. }
            | Stopped { .. }
            | Deleting { .. }
            | Deleted,
            Input::StartEnded { .. },
        )
        | (
            Creating | Created { .. } | Starting { .. } | Running | Paused | Resuming | Deleted,
            Input::PauseEnded { .. },
        )
        | (
            Creating | Created { .. } | Starting { .. } | Running | Pausing | Paused | Deleted,
            Input::ResumeEnded { .. },
        )
        | (Ending { .. } | Stopped { .. } | Deleting { .. }, Input::ResumeEnded { ok: true })
        | (
            Creating
            | Starting { early: Some(_), .. }
            | Ending { .. }
            | Stopped { .. }
            | Deleting { exit: Some(_), .. }
            | Deleted,
            Input::Exited(_),
        )
        | (
            Creating
            | Created { .. }
            | Starting { .. }
            | Running
            | Pausing
            | Paused
            | Resuming
            | Stopped { .. }
            | Deleting { .. }
            | Deleted,
            Input::Settled,
        )
        | (
            Creating
            | Created { .. }
            | Starting { .. }
            | Running
            | Pausing
            | Paused
            | Resuming
            | Ending { .. }
            | Stopped { .. }
            | Deleted,
            Input::DeleteEnded { .. },
        ) => stay(Effect::None),
    }
}

impl State {
    /// Init's exit, once it has been told.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        match *self {
            Self::Stopped { exit } => Some(exit),
            Self::Deleting { exit, .. } => exit,
            Self::Creating
            | Self::Created { .. }
            | Self::Starting { .. }
            | Self::Running
            | Self::Pausing
            | Self::Paused
            | Self::Resuming
            | Self::Ending { .. }
            | Self::Deleted => None,
        }
    }

    /// Whether init has been reaped, told or not.
    #[must_use]
    pub fn init_has_exited(&self) -> bool {
        match self {
            Self::Starting { early, .. } => early.is_some(),
            Self::Deleting { exit, .. } => exit.is_some(),
            Self::Ending { .. } | Self::Stopped { .. } | Self::Deleted => true,
            Self::Creating
            | Self::Created { .. }
            | Self::Running
            | Self::Pausing
            | Self::Paused
            | Self::Resuming => false,
        }
    }

    /// Whether an operation is under way after which a request that waits may be tried again.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        matches!(
            self,
            Self::Starting { .. } | Self::Pausing | Self::Resuming | Self::Deleting { .. }
        )
    }
}
