//! What the owner of a container receives when an operation ends.

use super::{
    command::{Deleted, Reply},
    create::{Created, RunningInit},
    delete::UnmountTask,
};
use crate::{
    model::Exit,
    reaper::Child,
    task::{TaskError, cgroup::OomWatch, io::ProcessIo},
};

/// The end of an operation, with its result and the reply of the request that it belongs to.
#[derive(Debug)]
pub(super) enum Completion {
    Created {
        reply: Reply<Option<i32>>,
        result: Result<Box<Created>, TaskError>,
    },
    Started {
        reply: Reply<i32>,
        result: Result<(), TaskError>,
    },
    Restored {
        reply: Reply<i32>,
        /// The streams; `None` only if the restore panicked.
        io: Option<Box<ProcessIo>>,
        result: Result<RunningInit, TaskError>,
    },
    Paused {
        reply: Reply<()>,
        result: Result<(), TaskError>,
    },
    Resumed {
        reply: Reply<()>,
        result: Result<(), TaskError>,
    },
    InitExited {
        exit: Exit,
        /// The cgroup's count of OOM kills after the exit; `None` if it could not be read.
        oom_kills: Option<u64>,
    },
    OomKilled {
        watch: OomWatch,
        /// The number of OOM kills since the cgroup was created.
        kills: u64,
    },
    /// The runtime was asked to kill the processes that init left behind, successfully or not.
    LeftoversKilled,
    /// The time that was left for starts in progress when init exited has elapsed.
    GraceElapsed,
    ExecStarted {
        exec_id: String,
        reply: Reply<i32>,
        result: Result<Box<(ProcessIo, Child)>, TaskError>,
    },
    ExecExited {
        exec_id: String,
        exit: Exit,
    },
    ExecDeleted {
        exec_id: String,
        reply: Reply<Deleted>,
    },
    Deleted {
        reply: Reply<Deleted>,
        result: Result<(), TaskError>,
        /// The streams; `None` after a delete that succeeded, which has closed them.
        io: Option<Box<ProcessIo>>,
        /// The unmount that still runs after its time limit.
        unmount: Option<UnmountTask>,
    },
    /// The operation has ended, and the owner has nothing to do: any client was already answered.
    Answered,
}
