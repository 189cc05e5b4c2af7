//! The life of an exec.

use super::{Denied, cannot};
use crate::model::Exit;

/// Where an exec is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Known, not started.
    Added,
    /// The runtime's exec is under way.
    Starting,
    /// The runtime's exec failed; there was never a process.
    Failed,
    /// The process runs.
    Running {
        /// Its pid.
        pid: i32,
    },
    /// The process has ended and everybody has been told.
    Stopped {
        /// Its exit.
        exit: Exit,
    },
    /// Its streams are being drained.
    Deleting {
        /// Its exit; none if it never ran.
        exit: Option<Exit>,
    },
}

/// What happens to an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A request.
    Start,
    /// The runtime's exec ended well and left this process.
    Started {
        /// Its pid.
        pid: i32,
    },
    /// The runtime's exec failed.
    StartFailed,
    /// A request to signal the process.
    Kill,
    /// A request to change the size of its terminal.
    Resize,
    /// The process was reaped.
    Exited(Exit),
    /// A request.
    Delete,
}

/// What follows from an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing to do.
    None,
    /// Do what was asked for: it is allowed.
    Proceed,
    /// End the runtime's exec that is under way.
    AbortStart,
    /// Answer when the delete that is under way has ended.
    JoinDelete,
    /// Tell that it was started.
    TellStarted,
    /// Tell its exit.
    TellExit(Exit),
}

/// The next state and what follows.
pub type Next = (State, Effect);

/// The one transition function: every input in every state.
///
/// # Errors
///
/// [`Denied`] for a request that the state does not allow.
pub fn step(state: State, input: Input) -> Result<Next, Denied> {
    use State::{Added, Deleting, Failed, Running, Starting, Stopped};
    let stay = |effect| Ok((state, effect));
    match (state, input) {
        (Added | Failed, Input::Start) => Ok((Starting, Effect::Proceed)),
        (Starting | Running { .. }, Input::Start) => Err(cannot("start", "a running process")),
        (Stopped { .. } | Deleting { .. }, Input::Start) => {
            Err(cannot("start", "a stopped process"))
        }

        (Starting, Input::Started { pid }) => Ok((Running { pid }, Effect::TellStarted)),
        (Starting, Input::StartFailed) => Ok((Failed, Effect::None)),

        (Running { .. }, Input::Kill) => stay(Effect::Proceed),
        (Starting, Input::Kill) => stay(Effect::AbortStart),
        (Added | Failed, Input::Kill) => Err(Denied::NotStarted),
        (Stopped { .. } | Deleting { .. }, Input::Kill) => Err(Denied::Finished),

        (Added | Starting | Failed | Running { .. }, Input::Resize) => stay(Effect::Proceed),
        (Stopped { .. } | Deleting { .. }, Input::Resize) => {
            Err(cannot("resize", "a stopped container"))
        }

        (Running { .. }, Input::Exited(exit)) => Ok((Stopped { exit }, Effect::TellExit(exit))),

        (Added | Failed, Input::Delete) => Ok((Deleting { exit: None }, Effect::Proceed)),
        (Stopped { exit }, Input::Delete) => Ok((Deleting { exit: Some(exit) }, Effect::Proceed)),
        (Starting | Running { .. }, Input::Delete) => Err(cannot("delete", "a running process")),
        (Deleting { .. }, Input::Delete) => stay(Effect::JoinDelete),

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
    /// The pid, 0 where there is none.
    #[must_use]
    pub fn pid(&self) -> i32 {
        match self {
            Self::Running { pid } => *pid,
            Self::Stopped { exit } | Self::Deleting { exit: Some(exit) } => exit.pid,
            Self::Added | Self::Starting | Self::Failed | Self::Deleting { exit: None } => 0,
        }
    }

    /// Its exit, once it has been told.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        match self {
            Self::Stopped { exit } => Some(*exit),
            Self::Deleting { exit } => *exit,
            Self::Added | Self::Starting | Self::Failed | Self::Running { .. } => None,
        }
    }

    /// Whether init's exit has to wait for this one's.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Starting | Self::Running { .. })
    }
}
