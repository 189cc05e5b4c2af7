//! The lifecycle of an exec.

use super::{Denied, cannot};
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

/// A request to an exec, the end of its start, or the exit of its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A request to start the process.
    Start,
    /// The runtime's exec succeeded: the process is now a child of the shim.
    Started {
        /// The pid in the shim's pid namespace.
        pid: i32,
    },
    /// The runtime's exec failed or was aborted.
    StartFailed,
    /// A request to signal the process.
    Kill,
    /// A request to change the size of the exec's terminal.
    Resize,
    /// The process was reaped.
    Exited(Exit),
    /// A request to delete the exec.
    Delete,
}

/// What the owner of the container must do after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The owner does nothing.
    None,
    /// The request is allowed: perform it.
    Proceed,
    /// Kill the runtime's exec that is in progress.
    AbortStart,
    /// Answer the request when the delete that is in progress has ended.
    JoinDelete,
    /// Report that the exec was started.
    ReportStarted,
    /// Report the exit: publish it and answer the requests that wait for it.
    ReportExit(Exit),
}

/// The next state and the effect.
pub type Next = (State, Effect);

/// The transition function: lists every input in every state.
///
/// # Errors
///
/// [`Denied`] for a request that the state does not allow. Other inputs are never refused: an input
/// that does not fit the state does not change the state.
pub fn step(state: State, input: Input) -> Result<Next, Denied> {
    use State::{Added, Deleting, Failed, Running, Starting, Stopped};
    let stay = |effect| Ok((state, effect));
    match (state, input) {
        (Added | Failed, Input::Start) => Ok((Starting, Effect::Proceed)),
        (Starting | Running { .. }, Input::Start) => Err(cannot("start", "a running process")),
        (Stopped { .. } | Deleting { .. }, Input::Start) => {
            Err(cannot("start", "a stopped process"))
        }

        (Starting, Input::Started { pid }) => Ok((Running { pid }, Effect::ReportStarted)),
        (Starting, Input::StartFailed) => Ok((Failed, Effect::None)),

        (Running { .. }, Input::Kill) => stay(Effect::Proceed),
        // The runtime may hang, and the process of the exec is not known yet: kill the runtime
        // instead.
        (Starting, Input::Kill) => stay(Effect::AbortStart),
        (Added | Failed, Input::Kill) => Err(Denied::NotStarted),
        (Stopped { .. } | Deleting { .. }, Input::Kill) => Err(Denied::Finished),

        // If the terminal does not exist yet, a resize does nothing and is not an error.
        (Added | Starting | Failed | Running { .. }, Input::Resize) => stay(Effect::Proceed),
        (Stopped { .. } | Deleting { .. }, Input::Resize) => {
            Err(cannot("resize", "a stopped container"))
        }

        (Running { .. }, Input::Exited(exit)) => Ok((Stopped { exit }, Effect::ReportExit(exit))),

        (Added | Failed, Input::Delete) => Ok((Deleting { exit: None }, Effect::Proceed)),
        (Stopped { exit }, Input::Delete) => Ok((Deleting { exit: Some(exit) }, Effect::Proceed)),
        (Starting | Running { .. }, Input::Delete) => Err(cannot("delete", "a running process")),
        (Deleting { .. }, Input::Delete) => stay(Effect::JoinDelete),

        // Ends and exits that do not fit the state: late, or received twice.
        (
            Added | Failed | Running { .. } | Stopped { .. } | Deleting { .. },
            Input::Started { .. } | Input::StartFailed,
        )
        | (Added | Starting | Failed | Stopped { .. } | Deleting { .. }, Input::Exited(_)) => {
            stay(Effect::None)
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
