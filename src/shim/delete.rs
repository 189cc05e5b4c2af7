//! `delete`: cleans up after a container whose shim is dead or gone.
//!
//! containerd runs it after every ordinary delete too, so the ordinary case, where nothing is left,
//! starts neither a runtime nor a thread.

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
    bundle::Bundle, model::Exit, observe::node, publish::timestamp, reaper::Reaper, runc::Runc,
    task::rootfs,
};

/// containerd gives the whole verb five seconds.
const DELETE: Duration = Duration::from_secs(4);

/// What a process that nobody saw end is said to have ended with: it was killed.
const KILLED: u32 = 128 + nix::libc::SIGKILL.unsigned_abs();

/// Removes what is left of a container and tells how its init ended.
pub(super) fn run(arguments: &Arguments) -> Outcome {
    let path = bundle_path(arguments)?;
    let bundle = Bundle::new(&path);
    if let Err(error) = delete_state(arguments, &path, &bundle) {
        warn("failed to remove the runtime's container", &*error);
    }
    if let Err(error) = rootfs::unmount_recursive(&bundle.rootfs()) {
        warn("failed to unmount the root filesystem", &error);
    }
    if let Some(socket) = bundle.address().as_deref().and_then(Socket::at) {
        socket.remove_if_dead();
    }
    let pid = bundle.init_pid().unwrap_or_default();
    let exit = bundle.exit().unwrap_or(Exit { timestamp: SystemTime::now(), pid, status: KILLED });
    let response = DeleteResponse {
        pid: u32::try_from(exit.pid).unwrap_or_default(),
        exit_status: exit.status,
        exited_at: MessageField::some(timestamp(exit.timestamp)),
        ..Default::default()
    };
    let mut stdout = io::stdout();
    stdout.write_all(&response.write_to_bytes()?)?;
    stdout.flush()?;
    // Last, because it may wait for the kernel: the answer is out.
    if let Err(error) = node::bury(&arguments.namespace, &arguments.id) {
        warn("failed to remove what the shim's observer left", &error);
    }
    Ok(())
}

/// The bundle of `-id`: containerd runs the verb in it, or in a sibling, or names it.
fn bundle_path(arguments: &Arguments) -> io::Result<PathBuf> {
    if !arguments.bundle.is_empty() {
        return Ok(PathBuf::from(&arguments.bundle));
    }
    let here = env::current_dir()?;
    Ok(here.parent().unwrap_or(Path::new("/")).join(&arguments.id))
}

/// Has the runtime kill and forget the container, if it still knows it.
fn delete_state(arguments: &Arguments, path: &Path, bundle: &Bundle) -> Outcome {
    let reaper = Reaper::default();
    let runc = Runc::new(&bundle.options()?, &arguments.namespace, path, None, reaper.clone())?;
    if !runc.has_state(&arguments.id) {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut child = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child())?;
        let reap = async {
            loop {
                reaper.reap();
                child.recv().await;
            }
        };
        tokio::select! {
            deleted = runc.delete(&arguments.id, true, Some(DELETE)) => Ok(deleted?),
            () = reap => Ok(()),
        }
    })
}

/// containerd logs what is on stderr as warnings.
fn warn(what: &str, error: &dyn std::error::Error) {
    let _ = writeln!(io::stderr(), "{what}: {}", one_line(error));
}
