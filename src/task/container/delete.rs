//! Deleting a container, in steps that a repeated delete does not do again. Each step has a time
//! limit, so that the caller learns what hangs.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::timeout;

use super::create::runtime;
use crate::{
    runc::Runc,
    task::{
        TaskError,
        io::ProcessIo,
        rootfs::{self, MountError},
    },
    workers::{self, Unfinished, Work},
};

/// The longest time for which a delete drains the output of a dead process. A caller of Delete
/// waits ten seconds, in which the runtime's delete must end as well (containerd
/// #13377).
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Time limit of the runtime's delete.
const RUNTIME_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit of the runtime's delete and the unmount together. With [`DRAIN_TIMEOUT`] it is less
/// than the ten seconds of a caller, so that the caller learns what hangs.
const DELETE_TIMEOUT: Duration = Duration::from_secs(7);

/// Drains and closes the streams of a process, if it has any.
pub(super) async fn close(io: Option<ProcessIo>) {
    if let Some(io) = io {
        // A background child may hold the output for an unlimited time, so the result is ignored.
        io.drain(DRAIN_TIMEOUT).await;
        io.close();
    }
}

/// The unmount of a root filesystem.
#[derive(Debug)]
pub(super) enum Unmount {
    /// The shim has mounted no root filesystem.
    None,
    /// To be begun: the path of the root filesystem.
    Of(PathBuf),
    /// Begun on another thread. It cannot be cancelled, so a delete that gives up
    /// leaves it to the next delete.
    InProgress(UnmountTask),
}

/// The unmount that runs on another thread.
pub(super) struct UnmountTask(BoxFuture<'static, Result<Result<(), MountError>, Unfinished>>);

impl UnmountTask {
    fn begin(rootfs: PathBuf) -> Self {
        Self(workers::run(Work::File, move || rootfs::unmount_recursive(&rootfs)).boxed())
    }
}

impl std::fmt::Debug for UnmountTask {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("UnmountTask")
    }
}

impl Unmount {
    /// The unmount of `rootfs`, or the one that an earlier delete has begun.
    pub(super) fn of(rootfs: Option<PathBuf>, begun: Option<UnmountTask>) -> Self {
        match (begun, rootfs) {
            (Some(task), _) => Self::InProgress(task),
            (None, Some(rootfs)) => Self::Of(rootfs),
            (None, None) => Self::None,
        }
    }
}

/// Deletes the container with the runtime, then unmounts its root filesystem. Each of the steps
/// that has been done is skipped when the delete is repeated.
pub(super) async fn delete(runc: &Runc, id: &str, unmount: &mut Unmount) -> Result<(), TaskError> {
    let began = Instant::now();
    // If there is no state, an earlier delete succeeded in the runtime and failed at the unmount,
    // or the runtime has lost its state. In both cases the delete continues.
    if runc.has_state(id) {
        let deleted = runc.delete(id, false, Some(RUNTIME_TIMEOUT)).await;
        deleted.map_err(runtime("failed to delete task"))?;
    }
    if let Unmount::Of(rootfs) = unmount {
        *unmount = Unmount::InProgress(UnmountTask::begin(rootfs.clone()));
    }
    if let Unmount::InProgress(UnmountTask(task)) = unmount {
        let left = DELETE_TIMEOUT.saturating_sub(began.elapsed());
        let ended = timeout(left, &mut *task).await;
        let ended = ended.map_err(|_| TaskError::UnmountHangs { after: began.elapsed() })?;
        *unmount = Unmount::None;
        ended.map_err(|_| TaskError::Abandoned)??;
    }
    Ok(())
}
