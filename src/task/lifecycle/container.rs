//! The lifecycle of a container, which is the lifecycle of its init.

use super::{Denied, asks_to_end, cannot};
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

/// A request to a container. It may be refused. For kill and delete see [`allow_kill`] and
/// [`allow_delete`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Start init.
    Start,
    /// Freeze all processes.
    Pause,
    /// Thaw all processes.
    Resume,
    /// Add an exec.
    AddExec,
    /// Start an added exec.
    StartExec,
    /// Change the resource limits.
    Update,
    /// Write a checkpoint.
    Checkpoint,
}

/// How a kill that the state allows is performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// Signal init, or all processes.
    Signal,
    /// Kill the create or the restore that is in progress.
    Abort,
}

/// How a delete that the state allows is performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delete {
    /// Begin the delete, with this as the next state.
    Begin(State),
    /// Kill the create that is in progress. The end of the create answers the delete.
    AbortCreate,
    /// Answer the request when the delete that is in progress has ended.
    Join,
}

/// What has happened to a container: an operation has ended, init was reaped, or everything was
/// reported. It cannot be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// The runtime's create succeeded.
    Created {
        /// Whether start will restore a checkpoint.
        restore: bool,
    },
    /// The runtime's start or restore ended.
    StartEnded {
        /// Whether the runtime has succeeded.
        ok: bool,
    },
    /// The runtime's pause ended.
    PauseEnded {
        /// Whether the runtime has succeeded.
        ok: bool,
    },
    /// The runtime's resume ended.
    ResumeEnded {
        /// Whether the runtime has succeeded.
        ok: bool,
    },
    /// Init was reaped.
    Exited(Exit),
    /// Everything has been reported that must be reported before init's exit.
    Settled,
    /// The runtime's delete ended.
    DeleteEnded {
        /// Whether the runtime has succeeded.
        ok: bool,
    },
}

/// What the owner of the container must do after a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The owner does nothing.
    None,
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

/// The next state if a request may go ahead. Lists every request in every state.
///
/// # Errors
///
/// [`Denied`] if the state does not allow the request. The state does not change then.
pub fn allow(state: State, request: Request) -> Result<State, Denied> {
    use State::{
        Created, Creating, Deleted, Deleting, Ending, Paused, Pausing, Resuming, Running, Starting,
        Stopped,
    };
    match (state, request) {
        // ── start ──
        (Created { restore }, Request::Start) => Ok(Starting { restore, early_exit: None }),
        (Running, Request::Start) => Err(cannot("start", "a running process")),
        (Paused, Request::Start) => Err(cannot("start", "a paused process")),
        (Ending { .. } | Stopped { .. }, Request::Start) => {
            Err(cannot("start", "a stopped process"))
        }

        // ── pause and resume ──
        (Running, Request::Pause) => Ok(Pausing),
        (Created { .. }, Request::Pause) => Err(cannot("pause", "task in created state")),
        (Paused, Request::Pause) => Err(cannot("pause", "a paused container")),
        (Ending { .. } | Stopped { .. }, Request::Pause) => {
            Err(cannot("pause", "a stopped container"))
        }
        (Paused, Request::Resume) => Ok(Resuming),
        (Created { .. }, Request::Resume) => Err(cannot("resume", "task in created state")),
        (Running, Request::Resume) => Err(cannot("resume", "a running process")),
        (Ending { .. } | Stopped { .. }, Request::Resume) => {
            Err(cannot("resume", "a stopped container"))
        }

        // ── execs ──
        (
            Created { restore: false } | Starting { .. } | Running | Ending { .. },
            Request::AddExec,
        ) => Ok(state),
        (Created { restore: true }, Request::AddExec) => Err(cannot("exec", "in a created state")),
        (Paused, Request::AddExec) => Err(cannot("exec", "in a paused state")),
        (Stopped { .. } | Deleting { .. }, Request::AddExec) => {
            Err(cannot("exec", "in a stopped state"))
        }
        (Created { restore: false } | Running | Paused, Request::StartExec) => Ok(state),
        (Created { restore: true }, Request::StartExec) => {
            Err(cannot("exec", "in a created state"))
        }
        (Ending { .. } | Stopped { .. } | Deleting { .. }, Request::StartExec) => {
            Err(Denied::InitNotRunning)
        }

        // ── update and checkpoint ──
        (Created { .. } | Running | Paused | Ending { .. }, Request::Update) => Ok(state),
        (Stopped { .. } | Deleting { .. }, Request::Update) => {
            Err(cannot("update", "a stopped container"))
        }
        (Running | Paused, Request::Checkpoint) => Ok(state),
        (Created { .. }, Request::Checkpoint) => {
            Err(cannot("checkpoint", "a task in created state"))
        }
        (Ending { .. } | Stopped { .. } | Deleting { .. }, Request::Checkpoint) => {
            Err(cannot("checkpoint", "a stopped container"))
        }

        // ── requests that wait for the operation in progress ──
        (
            Starting { .. } | Pausing | Resuming,
            Request::Start
            | Request::Pause
            | Request::Resume
            | Request::Update
            | Request::Checkpoint
            | Request::StartExec,
        )
        | (Pausing | Resuming, Request::AddExec)
        | (Deleting { .. }, Request::Start | Request::Pause | Request::Resume) => Err(Denied::Busy),

        // ── requests before the create has ended, or after the delete ──
        (
            Creating | Deleted,
            Request::Start
            | Request::Pause
            | Request::Resume
            | Request::AddExec
            | Request::StartExec
            | Request::Update
            | Request::Checkpoint,
        ) => Err(Denied::NotCreated),
    }
}

/// Whether a kill may go ahead, and how. With `all` the signal is sent to all processes instead of
/// init. A kill does not change the state. Lists every state.
///
/// # Errors
///
/// [`Denied`] if there is nothing to signal.
pub fn allow_kill(state: State, signal: u32, all: bool) -> Result<Kill, Denied> {
    match state {
        // Init is not known, so it cannot be signalled, and the runtime may hang: kill the runtime.
        State::Creating | State::Starting { restore: true, .. } if asks_to_end(signal) => {
            Ok(Kill::Abort)
        }
        State::Creating => Err(Denied::NotCreated),
        State::Starting { restore: true, .. } => Err(Denied::Busy),
        State::Created { .. }
        | State::Starting { restore: false, .. }
        | State::Running
        | State::Pausing
        | State::Paused
        | State::Resuming => Ok(Kill::Signal),
        // In a shared pid namespace other processes can outlive init. The runtime finds them by
        // their cgroup.
        State::Ending { .. } | State::Stopped { .. } => {
            if all {
                Ok(Kill::Signal)
            } else {
                Err(Denied::Finished)
            }
        }
        State::Deleting { .. } => Err(Denied::Finished),
        State::Deleted => Err(Denied::NotCreated),
    }
}

/// Whether a delete may go ahead, and how. Lists every state.
///
/// # Errors
///
/// [`Denied`] if the state does not allow a delete. The state does not change then.
pub fn allow_delete(state: State) -> Result<Delete, Denied> {
    match state {
        // There is nothing to delete yet: the aborted create removes what it has created.
        State::Creating => Ok(Delete::AbortCreate),
        State::Created { restore } => Ok(Delete::Begin(State::Deleting { exit: None, restore })),
        State::Stopped { exit } => {
            Ok(Delete::Begin(State::Deleting { exit: Some(exit), restore: false }))
        }
        State::Running | State::Ending { .. } => Err(cannot("delete", "a running process")),
        State::Paused => Err(cannot("delete", "a paused process")),
        State::Starting { .. } | State::Pausing | State::Resuming => Err(Denied::Busy),
        State::Deleting { .. } => Ok(Delete::Join),
        State::Deleted => Err(Denied::NotCreated),
    }
}

/// What follows from a fact: the next state and the effect. Lists every fact in every state. A fact
/// that does not fit the state changes nothing.
#[must_use]
pub fn advance(state: State, fact: Fact) -> (State, Effect) {
    use State::{
        Created, Creating, Deleted, Deleting, Ending, Paused, Pausing, Resuming, Running, Starting,
        Stopped,
    };
    match (state, fact) {
        // ── create ──
        (Creating, Fact::Created { restore }) => (Created { restore }, Effect::None),

        // ── start ──
        (Starting { early_exit: None, .. }, Fact::StartEnded { ok: true }) => {
            (Running, Effect::ReportStarted)
        }
        (Starting { early_exit: Some(exit), .. }, Fact::StartEnded { ok: true }) => {
            (Ending { exit }, Effect::ReportStartedThenEnd(exit))
        }
        // The container's program does not run yet, so start may be repeated.
        (Starting { restore, early_exit: None }, Fact::StartEnded { ok: false }) => {
            (Created { restore }, Effect::None)
        }
        (Starting { early_exit: Some(exit), .. }, Fact::StartEnded { ok: false }) => {
            (Ending { exit }, Effect::End(exit))
        }

        // ── pause and resume ──
        (Pausing, Fact::PauseEnded { ok: true }) => (Paused, Effect::ReportPaused),
        (Pausing, Fact::PauseEnded { ok: false }) => (Running, Effect::None),
        (Resuming, Fact::ResumeEnded { ok: true }) => (Running, Effect::ReportResumed),
        (Resuming, Fact::ResumeEnded { ok: false }) => (Paused, Effect::None),
        // Init exited meanwhile, and the thaw for that exit may have happened before this freeze
        // took effect. So the container is thawed again.
        (
            Ending { .. } | Stopped { .. } | Deleting { .. },
            Fact::PauseEnded { .. } | Fact::ResumeEnded { ok: false },
        ) => (state, Effect::Thaw),

        // ── exit of init ──
        (Created { .. } | Running | Resuming, Fact::Exited(exit)) => {
            (Ending { exit }, Effect::End(exit))
        }
        (Paused | Pausing, Fact::Exited(exit)) => (Ending { exit }, Effect::ThawThenEnd(exit)),
        // Init can exit before start has returned. Clients must receive the start event first, so
        // the exit is kept until then.
        (Starting { restore, early_exit: None }, Fact::Exited(exit)) => {
            (Starting { restore, early_exit: Some(exit) }, Effect::None)
        }
        // A container that was never started is being deleted: the runtime's delete kills init, and
        // init's exit is reported like any other exit.
        (Deleting { exit: None, restore }, Fact::Exited(exit)) => {
            (Deleting { exit: Some(exit), restore }, Effect::ReportExit(exit))
        }
        (Ending { exit }, Fact::Settled) => (Stopped { exit }, Effect::ReportExit(exit)),

        // ── delete ──
        (Deleting { .. }, Fact::DeleteEnded { ok: true }) => (Deleted, Effect::ReportDeleted),
        (Deleting { exit: Some(exit), .. }, Fact::DeleteEnded { ok: false }) => {
            (Stopped { exit }, Effect::None)
        }
        (Deleting { exit: None, restore }, Fact::DeleteEnded { ok: false }) => {
            (Created { restore }, Effect::None)
        }

        // ── facts that do not fit the state: late, or received twice ──
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
            Fact::Created { .. },
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
            Fact::StartEnded { .. },
        )
        | (
            Creating | Created { .. } | Starting { .. } | Running | Paused | Resuming | Deleted,
            Fact::PauseEnded { .. },
        )
        | (
            Creating | Created { .. } | Starting { .. } | Running | Pausing | Paused | Deleted,
            Fact::ResumeEnded { .. },
        )
        | (Ending { .. } | Stopped { .. } | Deleting { .. }, Fact::ResumeEnded { ok: true })
        | (
            Creating
            | Starting { early_exit: Some(_), .. }
            | Ending { .. }
            | Stopped { .. }
            | Deleting { exit: Some(_), .. }
            | Deleted,
            Fact::Exited(_),
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
            Fact::Settled,
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
            Fact::DeleteEnded { .. },
        ) => (state, Effect::None),
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
