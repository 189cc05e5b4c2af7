//! Mounts that a program makes: a FUSE file system is served by a process, which `mount.fuse` or
//! `mount.fuse3` starts.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::sync::oneshot::error::TryRecvError;

use super::{Mount, MountError};
use crate::{
    model::{Exit, printable},
    reaper::{Child, Reaper},
    runc,
    sys::process::SpawnAttr,
};

/// The longest time that a helper may take. It returns when the file system is mounted.
const WITHIN: Duration = Duration::from_secs(20);
/// The time between two checks for the end of a helper.
const PAUSE: Duration = Duration::from_millis(5);
/// The number of bytes at the end of a helper's output that an error quotes.
const QUOTED: usize = 1024;

/// The program for the kind of a mount, and the kind that this program expects; `None` for a file
/// system of the kernel.
pub(super) fn helper_of(kind: &str) -> Option<(&'static str, &str)> {
    let of = |program, prefix| kind.strip_prefix(prefix).map(|kind| (program, kind));
    of("mount.fuse", "fuse.").or_else(|| of("mount.fuse3", "fuse3."))
}

/// Mounts by a helper. Blocks.
pub(super) fn mount(
    mount: &Mount,
    (program, kind): (&str, &str),
    target: &Path,
    reaper: &Reaper,
) -> Result<(), MountError> {
    let failed = |source: io::Error| MountError::Mount {
        kind: mount.kind.clone(),
        source_path: mount.source.clone(),
        target: target.to_owned(),
        source,
    };
    // Searched here, because a relative entry of PATH must not find a program in the bundle.
    let binary = runc::find(program).map_err(|_| MountError::NoHelper {
        kind: mount.kind.clone(),
        program: program.to_owned(),
    })?;
    let mut command = Command::new(binary);
    command.arg(&mount.source).arg(target);
    for option in &mount.options {
        command.args(["-o", option]);
    }
    command.args(["-t", kind]);
    run(&mut command, reaper).map_err(failed)
}

/// Runs a helper to its end. Its output goes to a file in memory and not to a pipe: the process
/// that serves the file system may keep it open.
fn run(command: &mut Command, reaper: &Reaper) -> io::Result<()> {
    let output = File::from(memfd_create(c"mount-helper", MFdFlags::MFD_CLOEXEC)?);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
    // It must not die with its parent: that is the calling thread, which is one of a pool.
    let child = reaper.spawn(command, SpawnAttr::default())?;
    let exit = wait(child, reaper)?;
    if exit.status() == 0 {
        return Ok(());
    }
    let mut printed = [0; QUOTED];
    let end = output.metadata()?.len().saturating_sub(QUOTED as u64);
    let count = output.read_at(&mut printed, end)?;
    let printed = printable::safe_text(printed[..count].trim_ascii());
    Err(io::Error::other(format!("the mount helper exited with {}: {printed}", exit.status())))
}

fn wait(mut child: Child, reaper: &Reaper) -> io::Result<Exit> {
    let deadline = Instant::now() + WITHIN;
    loop {
        match child.exit.try_recv() {
            Ok(exit) => return Ok(exit),
            Err(TryRecvError::Closed) => return Err(io::Error::other("the shim exits")),
            Err(TryRecvError::Empty) if Instant::now() < deadline => thread::sleep(PAUSE),
            Err(TryRecvError::Empty) => {
                let _ = reaper.kill_group(child.pid);
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}
