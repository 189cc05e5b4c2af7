//! The lifecycle of an exec.

use super::{Denied, asks_to_end, cannot};
use crate::model::Exit;

/// The state of an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The exec was added and has not been started.
    Added,
    /// The runtime's exec is in progress.
    Starting,
    /// The runtime's exec failed, so there is no process. The exec may be started again.
    Failed,
    /// The process runs.
    Running {
        /// The pid in the shim's pid namespace.
        pid: i32,
    },
    /// The process was reaped and its exit has been reported.
    Stopped {
        /// The exit as it was reaped.
        exit: Exit,
    },
    /// The exec is being deleted: its output is being drained.
    Deleting {
        /// The exit of the process; `None` if it never ran.
        exit: Option<Exit>,
    },
}

/// A request to an exec. It may be refused. For kill and delete see [`allow_kill`] and
/// [`allow_delete`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Start the process.
    Start,
    /// Change the size of the exec's terminal.
    Resize,
}

/// How a kill that the state allows is performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// Signal the process.
    Signal {
        /// The pid in the shim's pid namespace.
        pid: i32,
    },
    /// Kill the runtime's exec that is in progress.
    AbortStart,
}

/// How a delete that the state allows is performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delete {
    /// Begin the delete, with this as the next state.
    Begin(State),
    /// Answer the request when the delete that is in progress has ended.
    Join,
}

/// What has happened to an exec: its start has ended, or its process was reaped. It cannot be
/// refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// The runtime's exec succeeded: the process is now a child of the shim.
    Started {
        /// The pid in the shim's pid namespace.
        pid: i32,
    },
    /// The runtime's exec failed or was aborted.
    StartFailed,
    /// The process was reaped.
    Exited(Exit),
}

/// What the owner of the container must do after a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The owner does nothing.
    None,
    /// Report that the exec was started.
    ReportStarted {
        /// The pid in the shim's pid namespace.
        pid: i32,
    },
    /// Report the exit: publish it and answer the requests that wait for it.
    ReportExit(Exit),
}

/// The next state if a request may go ahead. Lists every request in every state.
///
/// # Errors
///
/// [`Denied`] if the state does not allow the request. The state does not change then.
pub fn allow(state: State, request: Request) -> Result<State, Denied> {
    use State::{Added, Deleting, Failed, Running, Starting, Stopped};
    match (state, request) {
        (Added | Failed, Request::Start) => Ok(Starting),
        (Starting | Running { .. }, Request::Start) => Err(cannot("start", "a running process")),
        (Stopped { .. } | Deleting { .. }, Request::Start) => {
            Err(cannot("start", "a stopped process"))
        }

        // If the terminal does not exist yet, a resize does nothing and is not an error.
        (Added | Starting | Failed | Running { .. }, Request::Resize) => Ok(state),
        (Stopped { .. } | Deleting { .. }, Request::Resize) => {
            Err(cannot("resize", "a stopped container"))
        }
    }
}

/// Whether a kill may go ahead, and how. A kill does not change the state. Lists every state.
///
/// # Errors
///
/// [`Denied`] if there is no process to signal.
pub fn allow_kill(state: State, signal: u32) -> Result<Kill, Denied> {
    match state {
        State::Running { pid } => Ok(Kill::Signal { pid }),
        // The runtime may hang, and the process of the exec is not known yet: kill the runtime
        // instead.
        State::Starting if asks_to_end(signal) => Ok(Kill::AbortStart),
        State::Added | State::Starting | State::Failed => Err(Denied::NotStarted),
        State::Stopped { .. } | State::Deleting { .. } => Err(Denied::Finished),
    }
}

/// Whether a delete may go ahead, and how. Lists every state.
///
/// # Errors
///
/// [`Denied`] if the state does not allow a delete. The state does not change then.
pub fn allow_delete(state: State) -> Result<Delete, Denied> {
    match state {
        State::Added | State::Failed => Ok(Delete::Begin(State::Deleting { exit: None })),
        State::Stopped { exit } => Ok(Delete::Begin(State::Deleting { exit: Some(exit) })),
        State::Starting | State::Running { .. } => Err(cannot("delete", "a running process")),
        State::Deleting { .. } => Ok(Delete::Join),
    }
}

/// What follows from a fact: the next state and the effect. Lists every fact in every state. A fact
/// that does not fit the state changes nothing.
#[must_use]
pub fn advance(state: State, fact: Fact) -> (State, Effect) {
    use State::{Added, Deleting, Failed, Running, Starting, Stopped};
    match (state, fact) {
        (Starting, Fact::Started { pid }) => (Running { pid }, Effect::ReportStarted { pid }),
        (Starting, Fact::StartFailed) => (Failed, Effect::None),
        (Running { .. }, Fact::Exited(exit)) => (Stopped { exit }, Effect::ReportExit(exit)),

        // Facts that do not fit the state: late, or received twice.
        (
            Added | Failed | Running { .. } | Stopped { .. } | Deleting { .. },
            Fact::Started { .. } | Fact::StartFailed,
        )
        | (Added | Starting | Failed | Stopped { .. } | Deleting { .. }, Fact::Exited(_)) => {
            (state, Effect::None)
        }
    }
}

impl State {
    /// The pid in the shim's pid namespace, also after the exit; `None` if there never was a
    /// process.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        match self {
            Self::Running { pid } => Some(*pid),
            Self::Stopped { exit } | Self::Deleting { exit: Some(exit) } => Some(exit.pid),
            Self::Added | Self::Starting | Self::Failed | Self::Deleting { exit: None } => None,
        }
    }

    /// The exit, once it has been reported; `None` before the report, and if the process never ran.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        match self {
            Self::Stopped { exit } => Some(*exit),
            Self::Deleting { exit } => *exit,
            Self::Added | Self::Starting | Self::Failed | Self::Running { .. } => None,
        }
    }

    /// Whether init's exit must wait for the exit of this exec.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Starting | Self::Running { .. })
    }
}
