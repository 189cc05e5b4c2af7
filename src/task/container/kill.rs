//! Signals to a container: through the runtime, and without it.

use std::{sync::Arc, time::Duration};

use super::create::blocking;
use crate::{
    model::chain,
    reaper::Reaper,
    runc::{Runc, RuntimeError},
    task::{TaskError, cgroup::Cgroup, lifecycle::Denied},
    workers::Work,
};

/// The longest time for which init's exit waits for the processes that init left behind to die.
pub(super) const LEFTOVERS_MAX: Duration = Duration::from_secs(2);

/// The processes that a signal is for, as the shim finds them without the runtime.
#[derive(Debug)]
pub(super) enum KillTarget {
    /// All processes of the container; `None` if its cgroup is not known.
    All(Option<Cgroup>),
    /// Init, which is a child of the shim.
    Init { reaper: Reaper, pid: Option<i32> },
}

/// Sends a signal through the runtime, or without it if it does not answer.
///
/// # Errors
///
/// The runtime's error. [`TaskError::KillWithoutRuntime`] if the signal could not be sent in either
/// way.
pub(super) async fn signal(
    runc: Arc<Runc>,
    id: String,
    signal: u32,
    target: KillTarget,
) -> Result<(), TaskError> {
    let all = matches!(target, KillTarget::All(_));
    match runc.kill(&id, signal, all).await {
        Err(error) if !error.is_answer() => {
            without_runtime(target, signal, &error).await?;
            let error = chain(&error);
            tracing::warn!(id, signal, error, "sent a signal without the runtime");
            Ok(())
        }
        result => result.map_err(TaskError::Kill),
    }
}

/// Kills the processes that init left behind. Returns when all are dead, or after
/// [`LEFTOVERS_MAX`].
pub(super) async fn leftovers(runc: &Runc, id: &str, cgroup: Option<Cgroup>) {
    let killed = match cgroup {
        Some(cgroup) => all_of(&cgroup).await,
        None => Err(TaskError::NoCgroup),
    };
    let Err(error) = killed else { return };
    tracing::debug!(id, %error, "failed to kill what init left behind by its cgroup");
    let kill = runc.kill(id, nix::libc::SIGKILL.unsigned_abs(), true);
    if let Ok(Err(error)) = tokio::time::timeout(LEFTOVERS_MAX, kill).await {
        tracing::debug!(id, %error, "failed to kill what init left behind");
    }
}

/// Sends a signal without the runtime, which has failed with `cause`.
async fn without_runtime(
    target: KillTarget,
    signal: u32,
    cause: &RuntimeError,
) -> Result<(), TaskError> {
    let failed = |why: String| TaskError::KillWithoutRuntime { cause: chain(cause), why };
    let signal = i32::try_from(signal).map_err(|_| failed("no such signal".into()))?;
    match target {
        KillTarget::All(Some(cgroup)) => {
            let found = blocking(Work::Exit, move || cgroup.signal(signal)).await;
            match found.map_err(|error| failed(chain(&error)))? {
                0 => Err(Denied::Finished.into()),
                _ => Ok(()),
            }
        }
        KillTarget::All(None) => Err(failed("its cgroup is not known".into())),
        KillTarget::Init { reaper, pid } => {
            let pid = pid.ok_or(TaskError::Denied(Denied::NotCreated))?;
            match reaper.raw_signal(pid, signal) {
                Err(nix::Error::ESRCH) => Err(Denied::Finished.into()),
                sent => sent.map_err(|error| failed(error.to_string())),
            }
        }
    }
}

/// Kills all processes of a cgroup. Returns when there are none, or after [`LEFTOVERS_MAX`].
async fn all_of(cgroup: &Cgroup) -> Result<(), TaskError> {
    let deadline = tokio::time::Instant::now() + LEFTOVERS_MAX;
    let mut pause = Duration::from_millis(1);
    loop {
        let members = cgroup.clone();
        match blocking(Work::Exit, move || members.signal(nix::libc::SIGKILL)).await {
            Ok(0) => return Ok(()),
            Err(TaskError::Cgroup(error)) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
            Ok(left) if tokio::time::Instant::now() >= deadline => {
                tracing::warn!(left, "processes that init left behind do not end");
                return Ok(());
            }
            Ok(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
