//! Accepting connections, of the shim and of the daemon: from root and ourselves only, and without
//! giving up.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixListener as StdListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::Stream;
use tokio::net::{UnixListener, UnixStream};

/// How long to wait after a failed accept. Descriptors that have run out do not come back at once,
/// and the listener stays readable meanwhile (the busy loop of ttrpc-rust c351f0b).
const RETRY: Duration = Duration::from_millis(100);

/// Whether anybody has connected yet.
#[derive(Debug, Clone, Default)]
pub struct FirstConnection(Arc<AtomicBool>);

impl FirstConnection {
    /// Whether anybody has.
    #[must_use]
    pub fn happened(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connections that arrive at a listening socket. The stream never ends and never fails: a
/// server that was told of an error would stop.
///
/// # Errors
///
/// What the system answered when the socket was to be waited for.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn accept(
    listener: OwnedFd,
) -> io::Result<(impl Stream<Item = io::Result<UnixStream>> + Send + 'static, FirstConnection)> {
    let listener = StdListener::from(listener);
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let first = FirstConnection::default();
    let seen = first.clone();
    let stream = futures::stream::unfold((listener, seen), |(listener, seen)| async move {
        loop {
            match listener.accept().await {
                Ok((connection, _)) if is_trusted(&connection) => {
                    seen.0.store(true, Ordering::Relaxed);
                    return Some((Ok(connection), (listener, seen)));
                }
                Ok(_) => tracing::warn!("refused a connection from another user"),
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    });
    Ok((stream, first))
}

/// The second wall behind the socket's mode: whoever can use this socket is root on the node, or
/// whom the process runs as.
fn is_trusted(connection: &UnixStream) -> bool {
    let ours = nix::unistd::geteuid().as_raw();
    connection.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == ours)
}
