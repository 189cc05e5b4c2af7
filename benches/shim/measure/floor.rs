//! The runtime alone: create, start, the exit, delete. No shim can be faster than that.

use std::{
    fs,
    process::{Command, Stdio},
};

use nix::{sys::wait::waitpid, unistd::Pid};

use super::timed;
use crate::{
    Result,
    bundle::Bundle,
    workspace::{Runtime, Workspace},
};

/// Milliseconds for one container with its root already mounted.
pub(super) fn one(workspace: &Workspace, runtime: Runtime) -> Result<f64> {
    let bundle = Bundle::new(workspace, &["/bin/true"], None)?;
    bundle.mount()?;
    let pid_file = bundle.path.join("init.pid").display().to_string();
    let log = bundle.path.join("log.json").display().to_string();
    let run = |arguments: &[&str]| -> Result<()> {
        let status = Command::new(workspace.runtime(runtime))
            .arg("--root")
            .arg(workspace.in_run("floor"))
            .args(["--log", &log, "--log-format", "json"])
            .args(arguments)
            .arg(&bundle.id)
            .current_dir(&bundle.path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if status.success() {
            return Ok(());
        }
        Err(format!("{} {}: {status}: {}", runtime.name(), arguments[0], fs::read_to_string(&log)?)
            .into())
    };
    let (milliseconds, ()) = timed(|| {
        run(&["create", "--bundle", ".", "--pid-file", &pid_file])?;
        // The container's init is an orphan, and so a child of this subreaper.
        let init = Pid::from_raw(fs::read_to_string(&pid_file)?.trim().parse()?);
        run(&["start"])?;
        waitpid(init, None)?;
        run(&["delete"])
    })?;
    bundle.unmount()?;
    Ok(milliseconds)
}
