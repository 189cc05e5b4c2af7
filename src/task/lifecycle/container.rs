//! The lifecycle of a container, which is the lifecycle of its init.

use super::{Denied, cannot};
use crate::model::Exit;

/// The state of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The runtime's create is in progress.
    Creating,
    /// Init exists and waits for start. With `restore` there is no process yet: start restores it
    /// from a checkpoint.
    Created {
        /// Whether start restores a checkpoint.
        restore: bool,
    },
    /// The runtime's start or restore is in progress.
    Starting {
        /// Whether the operation is a restore.
        restore: bool,
        /// Init's exit, if init was reaped before start has returned.
        early_exit: Option<Exit>,
    },
    /// Init runs the container's program.
    Running,
    /// The runtime's pause is in progress.
    Pausing,
    /// All processes are frozen.
    Paused,
    /// The runtime's resume is in progress.
    Resuming,
    /// Init has exited, and the exits of execs must be reported before init's exit.
    Ending {
        /// Init's exit, not reported yet.
        exit: Exit,
    },
    /// Init has exited, and its exit has been reported.
    Stopped {
        /// Init's exit as it was reaped.
        exit: Exit,
    },
    /// The runtime's delete is in progress.
    Deleting {
        /// Init's exit; `None` while init of a container that was never started has not been
        /// reaped.
        exit: Option<Exit>,
        /// Whether the container is to be restored and was not started. After a failed delete, this
        /// is the field of [`State::Created`].
        restore: bool,
    },
    /// The container is deleted; every request is refused.
    Deleted,
}

/// A request to a container, the end of an operation, or the exit of init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The runtime's create succeeded.
    Created {
        /// Whether start will restore a checkpoint.
        restore: bool,
    },
    /// A request to start init.
    Start,
    /// The runtime's start or restore ended.
    StartEnded {
        /// Whether the runtime has succeeded.
        ok: bool,
    },
    /// A request to freeze all processes.
    Pause,
    /// The runtime's pause ended.
    PauseEnded {
        /// Whether the runtime has succeeded.
        ok: bool,
    },
    /// A request to thaw all processes.
    Resume,
    /// The runtime's resume ended.
    ResumeEnded {
        /// Whether the runtime has succeeded.
        ok: bool,
    },
    /// A request to signal init, or all processes.
    Kill {
        /// Whether the signal is sent to all processes instead of init.
        all: bool,
    },
    /// A request to add an exec.
    AddExec,
    /// A request to start an added exec.
    StartExec,
    /// A request to change the resource limits.
    Update,
    /// A request to write a checkpoint.
    Checkpoint,
    /// Init was reaped.
    Exited(Exit),
    /// Everything that must be reported before init's exit has been reported.
    Settled,
    /// A request to delete the container.
    Delete,
    /// The runtime's delete ended.
    DeleteEnded {
        /// Whether the runtime has succeeded.
        ok: bool,
    },
}

/// What the owner of the container must do after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The owner does nothing.
    None,
    /// The request is allowed: perform it.
    Proceed,
    /// Kill the create or the restore that is in progress.
    Abort,
    /// Answer the request when the delete that is in progress has ended.
    JoinDelete,
    /// Report that the container was started.
    ReportStarted,
    /// Report that the container was started, then handle its early exit as [`Effect::End`].
    ReportStartedThenEnd(Exit),
    /// Init has exited: kill the processes that it left behind, then wait for the exits of execs.
    End(Exit),
    /// The same as [`Effect::End`], for a frozen container: first thaw it, so that its other
    /// processes can exit.
    ThawThenEnd(Exit),
    /// A pause or resume ended after init had exited: make sure that the container is thawed.
    Thaw,
    /// Report that the container was paused.
    ReportPaused,
    /// Report that the container was resumed.
    ReportResumed,
    /// Report init's exit: publish it and answer the requests that wait for it.
    ReportExit(Exit),
    /// Report that the container was deleted.
    ReportDeleted,
}

/// The next state and the effect.
pub type Next = (State, Effect);

/// The transition function: lists every input in every state.
///
/// # Errors
///
/// [`Denied`] for a request that the state does not allow. Other inputs are never refused: the end
/// of an operation or an exit that does not fit the state does not change the state.
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
            Ok((Starting { restore, early_exit: None }, Effect::Proceed))
        }
        (Running, Input::Start) => Err(cannot("start", "a running process")),
        (Paused, Input::Start) => Err(cannot("start", "a paused process")),
        (Ending { .. } | Stopped { .. }, Input::Start) => Err(cannot("start", "a stopped process")),
        (Starting { early_exit: None, .. }, Input::StartEnded { ok: true }) => {
            Ok((Running, Effect::ReportStarted))
        }
        (Starting { early_exit: Some(exit), .. }, Input::StartEnded { ok: true }) => {
            Ok((Ending { exit }, Effect::ReportStartedThenEnd(exit)))
        }
        // The container's program does not run yet, so start may be repeated.
        (Starting { restore, early_exit: None }, Input::StartEnded { ok: false }) => {
            Ok((Created { restore }, Effect::None))
        }
        (Starting { early_exit: Some(exit), .. }, Input::StartEnded { ok: false }) => {
            Ok((Ending { exit }, Effect::End(exit)))
        }

        // ── pause and resume ──
        (Running, Input::Pause) => Ok((Pausing, Effect::Proceed)),
        (Created { .. }, Input::Pause) => Err(cannot("pause", "task in created state")),
        (Paused, Input::Pause) => Err(cannot("pause", "a paused container")),
        (Ending { .. } | Stopped { .. }, Input::Pause) => {
            Err(cannot("pause", "a stopped container"))
        }
        (Pausing, Input::PauseEnded { ok: true }) => Ok((Paused, Effect::ReportPaused)),
        (Pausing, Input::PauseEnded { ok: false }) => Ok((Running, Effect::None)),
        (Paused, Input::Resume) => Ok((Resuming, Effect::Proceed)),
        (Created { .. }, Input::Resume) => Err(cannot("resume", "task in created state")),
        (Running, Input::Resume) => Err(cannot("resume", "a running process")),
        (Ending { .. } | Stopped { .. }, Input::Resume) => {
            Err(cannot("resume", "a stopped container"))
        }
        (Resuming, Input::ResumeEnded { ok: true }) => Ok((Running, Effect::ReportResumed)),
        (Resuming, Input::ResumeEnded { ok: false }) => Ok((Paused, Effect::None)),
        // Init exited meanwhile, and the thaw for that exit may have happened before this freeze
        // took effect. So the container is thawed again.
        (
            Ending { .. } | Stopped { .. } | Deleting { .. },
            Input::PauseEnded { .. } | Input::ResumeEnded { ok: false },
        ) => stay(Effect::Thaw),

        // ── kill ──
        // Init is not known, so it cannot be signalled, and the runtime may hang: kill the runtime.
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
        // In a shared pid namespace other processes can outlive init. The runtime finds them by
        // their cgroup.
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

        // ── update and checkpoint ──
        (Created { .. } | Running | Paused | Ending { .. }, Input::Update) => stay(Effect::Proceed),
        (Stopped { .. } | Deleting { .. }, Input::Update) => {
            Err(cannot("update", "a stopped container"))
        }
        (Running | Paused, Input::Checkpoint) => stay(Effect::Proceed),
        (Created { .. }, Input::Checkpoint) => Err(cannot("checkpoint", "a task in created state")),
        (Ending { .. } | Stopped { .. } | Deleting { .. }, Input::Checkpoint) => {
            Err(cannot("checkpoint", "a stopped container"))
        }

        // ── exit of init ──
        (Created { .. } | Running | Resuming, Input::Exited(exit)) => {
            Ok((Ending { exit }, Effect::End(exit)))
        }
        (Paused | Pausing, Input::Exited(exit)) => Ok((Ending { exit }, Effect::ThawThenEnd(exit))),
        // Init can exit before start has returned. Clients must receive the start event first, so
        // the exit is kept until then.
        (Starting { restore, early_exit: None }, Input::Exited(exit)) => {
            Ok((Starting { restore, early_exit: Some(exit) }, Effect::None))
        }
        // A container that was never started is being deleted: the runtime's delete kills init, and
        // init's exit is reported like any other exit.
        (Deleting { exit: None, restore }, Input::Exited(exit)) => {
            Ok((Deleting { exit: Some(exit), restore }, Effect::ReportExit(exit)))
        }
        (Ending { exit }, Input::Settled) => Ok((Stopped { exit }, Effect::ReportExit(exit))),

        // ── delete ──
        // There is nothing to delete yet: the aborted create removes what it has created, and its
        // end also answers the delete.
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
        (Deleting { .. }, Input::DeleteEnded { ok: true }) => Ok((Deleted, Effect::ReportDeleted)),
        (Deleting { exit: Some(exit), .. }, Input::DeleteEnded { ok: false }) => {
            Ok((Stopped { exit }, Effect::None))
        }
        (Deleting { exit: None, restore }, Input::DeleteEnded { ok: false }) => {
            Ok((Created { restore }, Effect::None))
        }

        // ── requests that wait for the operation in progress ──
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

        // ── requests before the create has ended, or after the delete ──
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

        // ── ends and exits that do not fit the state: late, or received twice ──
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
            | Starting { early_exit: Some(_), .. }
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
    /// Init's exit, once it has been reported; `None` before the report and for a deleted
    /// container.
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

    /// Whether init has been reaped, even if its exit is not reported yet.
    #[must_use]
    pub fn init_has_exited(&self) -> bool {
        match self {
            Self::Starting { early_exit, .. } => early_exit.is_some(),
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

    /// Whether an operation is in progress for which requests must wait. They are retried when the
    /// operation ends.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        matches!(
            self,
            Self::Starting { .. } | Self::Pausing | Self::Resuming | Self::Deleting { .. }
        )
    }
}
