//! `start`: binds the socket, spawns the server, and answers when it serves.

use std::{
    env, io,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
};

use nix::fcntl::OFlag;

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

/// What is read of stdin at most (containerd 45b7de283 has the same bound).
const STDIN_MAX: u64 = 10 << 20;

/// The server did not come up.
#[derive(Debug, thiserror::Error)]
#[error("failed to start the shim's server: {said}")]
struct ServerError {
    said: String,
}

/// Brings a shim up for the bundle in the working directory, or finds the one of its group.
pub(super) fn run(arguments: &Arguments) -> Outcome {
    let mut stdin = Vec::new();
    io::stdin().take(STDIN_MAX).read_to_end(&mut stdin)?;
    let request = Request::read(&stdin, arguments)?;
    let bundle = Bundle::new(env::current_dir()?);
    let spec = bundle.spec()?;
    let group = spec.group().unwrap_or(&arguments.id);
    let socket = Socket::of(&request.socket_dir, &request.address, &arguments.namespace, group)?;
    // First, so that it cannot fail once a server runs that nobody would know.
    bundle.write_address(&socket.address())?;
    if let Bound::Ours(listener) = socket.bind()? {
        let identity = socket.identity();
        if let Err(error) = bring_up(arguments, &request, &socket, listener.into()) {
            socket.remove_own(identity);
            return Err(error);
        }
    }
    io::stdout().write_all(&request.generation.answer(&socket.address()))?;
    Ok(())
}

fn bring_up(
    arguments: &Arguments,
    request: &Request,
    socket: &Socket,
    listener: OwnedFd,
) -> Outcome {
    if env::var_os("SCHED_CORE").is_some_and(|value| !value.is_empty()) {
        process::create_core_scheduling_domain().map_err(|error| ServerError {
            said: format!("failed to enable core scheduling: {error}"),
        })?;
    }
    let (ready, tell_ready) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let mut server = spawn(arguments, request, socket, vec![listener, tell_ready])?;
    let joined = match request.options.shim_cgroup.as_str() {
        "" => Ok(()),
        path => cgroup::join(path, server.id()),
    };
    let up = joined.map_err(Into::into).and_then(|()| wait(ready));
    if up.is_err() {
        // Only the child that was just spawned: it has not been waited for.
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
    if request.debug {
        command.arg("-debug");
    }
    command
        .env("TTRPC_ADDRESS", &request.ttrpc_address)
        .env("LOOKOUT_SHIM_SOCKET", socket.address());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let attr = SpawnAttr { new_session: true, inherit, ..SpawnAttr::default() };
    process::spawn(&mut command, attr)
}

/// The server writes [`READY`] when it serves, or what went wrong; if it dies, nothing.
fn wait(ready: OwnedFd) -> Outcome {
    let mut said = String::new();
    std::fs::File::from(ready).take(4096).read_to_string(&mut said)?;
    match said.as_str() {
        READY => Ok(()),
        "" => Err(ServerError { said: "it ended without a word".into() }.into()),
        _ => Err(ServerError { said }.into()),
    }
}
