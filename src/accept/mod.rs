//! Accepts the connections of the shim and of the daemon: only from root and from the user of this
//! process. A failed accept is logged, and accepting continues.
//!
//! Connections of ttrpc also have limits (`limits.rs`).

mod limits;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use limits::fuzzing;

pub use limits::Connection;

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixListener as StdListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use tokio::net::{UnixListener, UnixStream};

/// Delay after a failed accept. When descriptors have run out, the listener stays readable, so
/// accepting again at once would be a busy loop (as in ttrpc-rust c351f0b).
const RETRY: Duration = Duration::from_millis(100);

/// Records whether a client has connected.
#[derive(Debug, Clone, Default)]
pub struct FirstConnection(Arc<AtomicBool>);

impl FirstConnection {
    /// Whether a client has connected.
    #[must_use]
    pub fn happened(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connections that arrive at a listening socket. The stream never ends and never yields an
/// error, because a ttrpc server stops at an error.
///
/// # Errors
///
/// The error of making the socket non-blocking or of registering it with the runtime.
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
                    tracing::warn!(%error, "failed to accept a connection, retrying");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    });
    Ok((stream, first))
}

/// As [`accept`], for connections that speak ttrpc: each has the limits of this module.
///
/// # Errors
///
/// As [`accept`].
///
/// # Panics
///
/// As [`accept`].
pub fn accept_ttrpc(
    listener: OwnedFd,
) -> io::Result<(impl Stream<Item = io::Result<Connection>> + Send + 'static, FirstConnection)> {
    let (accepted, first) = accept(listener)?;
    let connections = limits::Connections::default();
    let within = accepted.filter_map(move |accepted| {
        std::future::ready(match accepted {
            Ok(stream) => connections.admit(stream).map(Ok),
            Err(error) => Some(Err(error)),
        })
    });
    Ok((within, first))
}

/// Whether the peer is root or has the user id of this process. This check is made in addition to
/// the mode of the socket's file, which already excludes other users.
fn is_trusted(connection: &UnixStream) -> bool {
    let ours = nix::unistd::geteuid().as_raw();
    connection.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == ours)
}
