//! `delete`: cleans up after a container that has no shim any more.
//!
//! containerd runs this verb after every ordinary delete too. In that case nothing is left to clean
//! up, and the verb starts neither the OCI runtime nor an async runtime.

use std::{
    env,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use containerd_shim_protos::{
    api::DeleteResponse,
    protobuf::{Message as _, MessageField},
};

use super::{Outcome, args::Arguments, one_line, socket::Socket};
use crate::{
    bundle::Bundle,
    model::Ended,
    observe::node,
    publish::timestamp,
    reaper::Reaper,
    runc::Runc,
    task::{cgroup, rootfs},
};

/// Time limit of the runtime's `delete`. containerd allows five seconds for the whole verb.
const DELETE_TIMEOUT: Duration = Duration::from_secs(4);

/// How init has ended, as reported if no exit is recorded because the shim died before init: killed
/// by SIGKILL.
const UNRECORDED_END: Ended = Ended::Signal(9);

/// Removes the remains of a container and prints the exit of its init.
pub(super) fn run(arguments: &Arguments) -> Outcome {
    let path = bundle_path(arguments)?;
    let bundle = Bundle::new(&path);
    // Every step runs, even if an earlier one failed.
    let had_state = delete_state(arguments, &path, &bundle).unwrap_or_else(|error| {
        warn("failed to delete the container with the OCI runtime", &*error);
        true
    });
    // After an ordinary delete there is no state, and the cgroup of this path may already be that
    // of another container. Without a pid file the runtime died during the create.
    if (had_state || bundle.init_pid().is_none())
        && let Err(error) = remove_cgroup(&bundle)
    {
        warn("failed to remove the cgroup", &*error);
    }
    if let Err(error) = rootfs::unmount_recursive(&bundle.rootfs()) {
        warn("failed to unmount the root filesystem", &error);
    }
    if let Some(socket) = bundle.address().as_deref().and_then(Socket::at) {
        socket.remove_if_dead();
    }
    let exit = bundle.exit();
    let pid = exit.map(|exit| exit.pid).or_else(|| bundle.init_pid());
    let (ended, time) =
        exit.map_or((UNRECORDED_END, SystemTime::now()), |exit| (exit.ended, exit.timestamp));
    let response = DeleteResponse {
        pid: pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default(),
        exit_status: ended.status(),
        exited_at: MessageField::some(timestamp(time)),
        ..Default::default()
    };
    let mut stdout = io::stdout();
    stdout.write_all(&response.write_to_bytes()?)?;
    stdout.flush()?;
    // This step is the last, because it may wait for the kernel. containerd already has its answer.
    if let Err(error) = node::clean_up(&arguments.namespace, &arguments.id) {
        warn("failed to clean up after the shim's observer", &error);
    }
    Ok(())
}

/// The bundle of the container `-id`. containerd passes its path with `-bundle`. Without this flag,
/// the working directory is this bundle or another bundle in the same directory.
fn bundle_path(arguments: &Arguments) -> io::Result<PathBuf> {
    if !arguments.bundle.is_empty() {
        return Ok(PathBuf::from(&arguments.bundle));
    }
    let here = env::current_dir()?;
    Ok(here.parent().unwrap_or(Path::new("/")).join(&arguments.id))
}

/// Removes the cgroup that a create which died has left. A bundle without a configuration has none.
fn remove_cgroup(bundle: &Bundle) -> Outcome {
    let Ok(spec) = bundle.spec() else { return Ok(()) };
    let systemd = bundle.options().is_ok_and(|options| options.systemd_cgroup);
    Ok(cgroup::remove_leftover(spec.cgroups_path(), systemd)?)
}

/// Runs the runtime's `delete --force`, if the runtime still has state of the container. Returns
/// whether it had.
fn delete_state(
    arguments: &Arguments,
    path: &Path,
    bundle: &Bundle,
) -> Result<bool, Box<dyn std::error::Error>> {
    let reaper = Reaper::default();
    let runc = Runc::new(&bundle.options()?, &arguments.namespace, path, None, reaper.clone());
    if !runc.has_state(&arguments.id) {
        return Ok(false);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let deleted = runtime.block_on(async {
        let mut child = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child())?;
        let reap = async {
            loop {
                reaper.reap();
                child.recv().await;
            }
        };
        tokio::select! {
            deleted = runc.delete(&arguments.id, true, Some(DELETE_TIMEOUT)) => {
                io::Result::Ok(deleted)
            }
            () = reap => Ok(Ok(())),
        }
    })?;
    match deleted {
        Err(error) if !error.is_answer() => {
            warn("failed to delete the container with the OCI runtime", &error);
            delete_without_runtime(&runc, &arguments.id, bundle)?;
        }
        other => other?,
    }
    Ok(true)
}

/// Kills the container's processes and removes the runtime's state. containerd runs this verb once,
/// so what it leaves would stay, although the container has ended for containerd.
fn delete_without_runtime(runc: &Runc, id: &str, bundle: &Bundle) -> Outcome {
    let spec = bundle.spec()?;
    let systemd = bundle.options()?.systemd_cgroup;
    let is_dead = match bundle.init_pid() {
        Some(init) => cgroup::kill_leftover(init, spec.cgroups_path(), systemd)?,
        // Without a pid file it is not known what the runtime has started.
        None => false,
    };
    if is_dead {
        runc.forget_state(id)?;
    }
    Ok(())
}

/// Writes a warning to stderr, which containerd logs.
fn warn(what: &str, error: &dyn std::error::Error) {
    let _ = writeln!(io::stderr(), "{what}: {}", one_line(error));
}
