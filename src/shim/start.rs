//! `start`: binds the socket, spawns the serving process, waits until that process serves, and
//! answers.

use std::{
    env, io,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
};

use nix::fcntl::OFlag;
use tracing::level_filters::LevelFilter;

use super::{
    Outcome,
    args::Arguments,
    handshake::Request,
    serve::READY,
    socket::{Bound, Socket},
};
use crate::{
    bundle::Bundle,
    sys::process::{self, SpawnAttr},
    task::cgroup,
};

/// The largest number of bytes that are read from stdin (containerd 45b7de283 has the same bound).
const STDIN_MAX: u64 = 10 << 20;

/// The serving process could not be started.
#[derive(Debug, thiserror::Error)]
#[error("failed to start the shim's server: {reason}")]
struct ServerError {
    reason: String,
}

/// Starts a shim for the bundle in the working directory, or finds the running shim of its group.
pub(super) fn run(arguments: &Arguments) -> Outcome {
    let mut stdin = Vec::new();
    io::stdin().take(STDIN_MAX).read_to_end(&mut stdin)?;
    let request = Request::read(&stdin, arguments)?;
    let bundle = Bundle::new(env::current_dir()?);
    let spec = bundle.spec()?;
    let group = spec.group().unwrap_or(&arguments.id);
    let socket = Socket::of(&request.socket_dir, &request.address, &arguments.namespace, group)?;
    // The address is written before the spawn. If it could not be written afterwards, a serving
    // process would run that `delete` cannot find.
    bundle.write_address(&socket.address())?;
    if let Bound::Ours(listener) = socket.bind()? {
        let identity = socket.identity();
        if let Err(error) = start_server(arguments, &request, &socket, listener.into()) {
            socket.remove_own(identity);
            return Err(error);
        }
    }
    io::stdout().write_all(&request.generation.answer(&socket.address()))?;
    Ok(())
}

/// Spawns the serving process and waits until it serves. If it fails to, it is killed.
fn start_server(
    arguments: &Arguments,
    request: &Request,
    socket: &Socket,
    listener: OwnedFd,
) -> Outcome {
    if env::var_os("SCHED_CORE").is_some_and(|value| !value.is_empty()) {
        process::create_core_scheduling_domain().map_err(|error| ServerError {
            reason: format!("failed to enable core scheduling: {error}"),
        })?;
    }
    let (ready, readiness) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    // The order is that of `serve::LISTENER_FD` and `serve::READINESS_FD`: descriptors 3 and 4.
    let mut server = spawn(arguments, request, socket, vec![listener, readiness])?;
    // The serving process joins the cgroup before `start` answers, so that it serves no request
    // outside the cgroup.
    let joined = match request.options.shim_cgroup.as_str() {
        "" => Ok(()),
        path => cgroup::join(path, server.id()),
    };
    let up = joined.map_err(Into::into).and_then(|()| wait(ready));
    if up.is_err() {
        // The pid of `server` cannot have been reused, because the process has not been waited for.
        let _ = server.kill();
        let _ = server.wait();
    }
    up
}

fn spawn(
    arguments: &Arguments,
    request: &Request,
    socket: &Socket,
    inherit: Vec<OwnedFd>,
) -> io::Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    command.args([
        "-namespace",
        &arguments.namespace,
        "-id",
        &arguments.id,
        "-address",
        &request.address,
    ]);
    if request.log_level != LevelFilter::INFO {
        command.args(["-log-level", &request.log_level.to_string()]);
    }
    command
        .env("TTRPC_ADDRESS", &request.ttrpc_address)
        .env("LOOKOUT_SHIM_SOCKET", socket.address());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let attr = SpawnAttr { new_session: true, inherit, ..SpawnAttr::default() };
    process::spawn(&mut command, attr)
}

/// Waits for the end of the readiness pipe. The serving process writes [`READY`] or an error into
/// the pipe, and nothing if it dies.
fn wait(ready: OwnedFd) -> Outcome {
    let mut written = String::new();
    std::fs::File::from(ready).take(4096).read_to_string(&mut written)?;
    match written.as_str() {
        READY => Ok(()),
        "" => Err(ServerError { reason: "it ended without an error message".into() }.into()),
        _ => Err(ServerError { reason: written }.into()),
    }
}
