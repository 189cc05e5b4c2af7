//! The daemon's other sockets: metrics over HTTP, and the probe socket with each exec of a
//! container.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixStream},
    sync::{Semaphore, broadcast},
    task::JoinSet,
    time::timeout,
};

use super::instance::bind;
use crate::accept;

/// How many connections to one of the sockets are served at once. Further connections wait in the
/// socket's backlog.
const CONNECTIONS: usize = 16;

/// How long a client may take to send its request, and to read the response.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most bytes that are read of a request. A scraper sends a few hundred.
const REQUEST_MAX: usize = 8 << 10;

/// How many lines may wait for a reader of the probe socket. A reader that is further behind is
/// disconnected, because the format has no way to report that lines are missing.
pub const PROBE_WAITING: usize = 4096;

/// Serves metrics at a unix socket, and at `address` (`HOST:PORT`) if it is given. The returned
/// future answers scrapes with `text`, until the future is dropped.
///
/// # Errors
///
/// `InvalidInput` for an address that other machines can reach; otherwise the error of the failed
/// system call.
pub async fn metrics(
    socket: &Path,
    address: Option<&str>,
    text: impl Fn() -> TextFuture + Clone + Send + 'static,
) -> io::Result<impl Future<Output = ()>> {
    let (connections, _) = accept::accept(bind(socket)?.into())?;
    let tcp = match address {
        Some(address) => Some(TcpListener::bind(loopback(address)?).await?),
        None => None,
    };
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    Ok(async move {
        let mut connections = std::pin::pin!(connections);
        let mut served = JoinSet::new();
        loop {
            // The permit is taken before the accept: while no permit is free, a connection stays in
            // the backlog.
            let Ok(permit) = free.clone().acquire_owned().await else { return };
            let text = text.clone();
            tokio::select! {
                Some(Ok(connection)) = connections.next() => {
                    served.spawn(async move {
                        let _permit = permit;
                        answer(connection, text).await;
                    });
                }
                Some(connection) = accept_from(tcp.as_ref()) => {
                    served.spawn(async move {
                        let _permit = permit;
                        answer(connection, text).await;
                    });
                }
                Some(_) = served.join_next() => {}
            }
        }
    })
}

/// Resolves to the text of one scrape.
pub type TextFuture = std::pin::Pin<Box<dyn Future<Output = String> + Send>>;

/// The next connection of `listener`; `None` if accepting failed. Never resolves without a
/// listener.
async fn accept_from(listener: Option<&TcpListener>) -> Option<tokio::net::TcpStream> {
    match listener {
        // Errors such as EMFILE are temporary. The pause prevents a busy loop while they last, and
        // a scraper retries.
        Some(listener) => match listener.accept().await {
            Ok((connection, _)) => Some(connection),
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                None
            }
        },
        None => std::future::pending().await,
    }
}

fn loopback(address: &str) -> io::Result<SocketAddr> {
    let resolved = address.to_socket_addrs()?.next();
    resolved.filter(|address| address.ip().is_loopback()).ok_or_else(|| {
        let why =
            format!("metrics_address {address} is not a loopback address, such as 127.0.0.1:9464");
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })
}

/// Answers one request and closes the connection. Implements the part of HTTP/1.1 (RFC 9112) that a
/// scraper needs.
async fn answer(
    mut connection: impl AsyncRead + AsyncWrite + Unpin,
    text: impl Fn() -> TextFuture,
) {
    let mut request = Vec::new();
    let read = async {
        while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_MAX {
            if connection.read_buf(&mut request).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    if !matches!(timeout(PATIENCE, read).await, Ok(Ok(()))) {
        return;
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (status, body) = match (words.next(), words.next()) {
        (Some(b"GET"), Some(b"/" | b"/metrics")) => ("200 OK", text().await),
        (Some(b"GET"), _) => ("404 Not Found", String::new()),
        _ => ("405 Method Not Allowed", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let write = async {
        connection.write_all(head.as_bytes()).await?;
        connection.write_all(body.as_bytes()).await?;
        connection.shutdown().await
    };
    let _ = timeout(PATIENCE, write).await;
}

/// Serves the probe format at a unix socket. The returned future writes `lines` to each client,
/// until the future is dropped.
///
/// # Errors
///
/// The error of the failed system call.
pub fn probe(
    socket: &Path,
    lines: broadcast::Sender<Arc<str>>,
) -> io::Result<impl Future<Output = ()>> {
    let (connections, _) = accept::accept(bind(socket)?.into())?;
    Ok(serve_readers(connections, lines))
}

async fn serve_readers(
    connections: impl Stream<Item = io::Result<UnixStream>>,
    lines: broadcast::Sender<Arc<str>>,
) {
    let mut connections = std::pin::pin!(connections);
    let mut readers = JoinSet::new();
    loop {
        tokio::select! {
            Some(Ok(connection)) = connections.next(), if readers.len() < CONNECTIONS => {
                readers.spawn(write(connection, lines.subscribe()));
            }
            Some(_) = readers.join_next() => {}
        }
    }
}

/// Writes lines to one reader until it disconnects or is too slow.
async fn write(mut connection: UnixStream, mut lines: broadcast::Receiver<Arc<str>>) {
    let mut ignored = [0; 64];
    loop {
        tokio::select! {
            line = lines.recv() => {
                // An error means that the reader is more than PROBE_WAITING lines behind.
                let Ok(line) = line else { return };
                if connection.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
            // A reader sends nothing. A read that ends shows that the reader has disconnected, even
            // if no line is written.
            read = connection.read(&mut ignored) => {
                if matches!(read, Ok(0) | Err(_)) {
                    return;
                }
            }
        }
    }
}
