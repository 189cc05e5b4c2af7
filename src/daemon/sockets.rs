//! The daemon's other sockets: metrics by HTTP, and what begins to run.

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

/// Connections at once; more of them wait.
const CONNECTIONS: usize = 16;

/// How long a request, and its answer, may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request of a scraper is a few hundred bytes.
const REQUEST_MAX: usize = 8 << 10;

/// Lines that wait for a reader of the probe socket. One that is further behind is disconnected: it
/// would not know otherwise that something is missing.
pub const PROBE_WAITING: usize = 4096;

/// Serves metrics at a unix socket, and at an address of this host where one is configured, until
/// it is dropped.
///
/// # Errors
///
/// What the system answered; `InvalidInput` for an address that others can reach.
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
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    Ok(async move {
        let mut connections = std::pin::pin!(connections);
        let mut served = JoinSet::new();
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let text = text.clone();
            tokio::select! {
                Some(Ok(connection)) = connections.next() => {
                    served.spawn(async move { let _permit = permit; answer(connection, text).await });
                }
                Some(connection) = from(tcp.as_ref()) => {
                    served.spawn(async move { let _permit = permit; answer(connection, text).await });
                }
                Some(_) = served.join_next() => {}
            }
        }
    })
}

/// The text of one scrape.
pub type TextFuture = std::pin::Pin<Box<dyn Future<Output = String> + Send>>;

async fn from(listener: Option<&TcpListener>) -> Option<tokio::net::TcpStream> {
    match listener {
        // What failed is tried again: a scraper comes again too.
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
    let found = address.to_socket_addrs()?.next();
    found.filter(|address| address.ip().is_loopback()).ok_or_else(|| {
        let why =
            format!("metrics_address {address} is not of this host alone, such as 127.0.0.1:9464");
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })
}

/// One request, one answer: what a scraper needs of HTTP/1.1 (RFC 9112).
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
        "HTTP/1.1 {status}\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n\
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

/// Serves lines to whoever connects to a unix socket, until it is dropped.
///
/// # Errors
///
/// What the system answered.
pub fn probe(
    socket: &Path,
    lines: broadcast::Sender<Arc<str>>,
) -> io::Result<impl Future<Output = ()>> {
    let (connections, _) = accept::accept(bind(socket)?.into())?;
    Ok(carry(connections, lines))
}

async fn carry(
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

/// Until the reader leaves or is too slow.
async fn write(mut connection: UnixStream, mut lines: broadcast::Receiver<Arc<str>>) {
    let mut nothing = [0; 64];
    loop {
        tokio::select! {
            line = lines.recv() => {
                let Ok(line) = line else { return };
                if connection.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
            read = connection.read(&mut nothing) => {
                if matches!(read, Ok(0) | Err(_)) {
                    return;
                }
            }
        }
    }
}
