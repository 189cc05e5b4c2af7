//! The daemon's sockets beside that of the Registry service: metrics over HTTP, and the probe
//! socket with each exec of a container.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    os::unix::net::UnixListener,
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

use super::instance::bind_socket;
use crate::accept;

/// How many connections to one of the sockets are served at once. Further connections wait in the
/// socket's backlog.
const CONNECTIONS_MAX: usize = 16;

/// How long a client of the metrics may take to send its request, and to read the response.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// The most bytes that are read of an HTTP request. A scraper sends a few hundred.
const REQUEST_BYTES_MAX: usize = 8 << 10;

/// How many lines may wait for a reader of the probe socket. A reader that is further behind is
/// disconnected, because the format has no way to report that lines are missing.
pub const PROBE_LINES_MAX: usize = 4096;

/// The sockets of the daemon beside that of the Registry service, bound but not served yet.
#[derive(Debug)]
pub struct BoundSockets {
    metrics: UnixListener,
    metrics_tcp: Option<std::net::TcpListener>,
    probe: Option<UnixListener>,
}

/// Why a socket could not be bound.
#[derive(Debug)]
pub struct BindError {
    /// The configuration key of the socket.
    pub key: &'static str,
    /// The error of the system call; `InvalidInput` for an address that other machines can reach.
    pub source: io::Error,
}

impl BoundSockets {
    /// Binds the unix socket of the metrics, the address of the metrics (`HOST:PORT`) if it is
    /// given, and the probe socket if it is given. Blocks while a name is resolved.
    ///
    /// # Errors
    ///
    /// [`BindError`].
    pub fn bind(
        metrics: &Path,
        address: Option<&str>,
        probe: Option<&Path>,
    ) -> Result<Self, BindError> {
        let failed = |key| move |source| BindError { key, source };
        let tcp = |address| std::net::TcpListener::bind(loopback_address(address)?);
        Ok(Self {
            metrics: bind_socket(metrics).map_err(failed("metrics_address"))?,
            metrics_tcp: address.map(tcp).transpose().map_err(failed("metrics_address"))?,
            probe: probe.map(bind_socket).transpose().map_err(failed("probe_socket"))?,
        })
    }

    /// Serves the sockets. The returned future answers scrapes with `text` and writes `lines` to
    /// each client of the probe socket, until the future is dropped.
    ///
    /// # Errors
    ///
    /// The error of the failed system call.
    pub fn serve(
        self,
        text: impl Fn() -> ScrapeFuture + Clone + Send + 'static,
        lines: broadcast::Sender<Arc<str>>,
    ) -> io::Result<impl Future<Output = ()>> {
        let scrapes = serve_metrics(self.metrics, self.metrics_tcp, text)?;
        let probes = self.probe.map(|socket| serve_probe(socket, lines)).transpose()?;
        Ok(async move {
            match probes {
                Some(probes) => tokio::select! {
                    () = scrapes => {}
                    () = probes => {}
                },
                None => scrapes.await,
            }
        })
    }
}

/// Serves metrics. The returned future answers scrapes with `text`, until the future is dropped.
fn serve_metrics(
    socket: UnixListener,
    tcp: Option<std::net::TcpListener>,
    text: impl Fn() -> ScrapeFuture + Clone + Send + 'static,
) -> io::Result<impl Future<Output = ()>> {
    let (connections, _) = accept::accept(socket.into())?;
    let listener = |tcp: std::net::TcpListener| {
        tcp.set_nonblocking(true)?;
        TcpListener::from_std(tcp)
    };
    let tcp = tcp.map(listener).transpose()?;
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    Ok(async move {
        let mut connections = std::pin::pin!(connections);
        let mut served = JoinSet::new();
        loop {
            // The permit is taken before accept(2): while no permit is free, a connection stays in
            // the backlog.
            let Ok(permit) = free.clone().acquire_owned().await else { return };
            let text = text.clone();
            tokio::select! {
                Some(Ok(connection)) = connections.next() => {
                    served.spawn(async move {
                        let _permit = permit;
                        answer_scrape(connection, text).await;
                    });
                }
                Some(connection) = accept_tcp(tcp.as_ref()) => {
                    served.spawn(async move {
                        let _permit = permit;
                        answer_scrape(connection, text).await;
                    });
                }
                Some(_) = served.join_next() => {}
            }
        }
    })
}

/// Resolves to the OpenMetrics text of one scrape.
pub type ScrapeFuture = std::pin::Pin<Box<dyn Future<Output = String> + Send>>;

/// Accepts the next connection of `listener`; `None` if accepting failed. Never resolves without a
/// listener.
async fn accept_tcp(listener: Option<&TcpListener>) -> Option<tokio::net::TcpStream> {
    match listener {
        // Errors of accept(2) such as EMFILE are temporary. The pause prevents a busy loop while
        // they last, and a scraper retries.
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

/// Resolves `address` (`HOST:PORT`), which must be an address of the loopback interface.
fn loopback_address(address: &str) -> io::Result<SocketAddr> {
    let resolved = address.to_socket_addrs()?.next();
    resolved.filter(|address| address.ip().is_loopback()).ok_or_else(|| {
        let why =
            format!("metrics_address {address} is not a loopback address, such as 127.0.0.1:9464");
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })
}

/// Answers one HTTP request for the metrics and closes the connection. Implements the part of
/// HTTP/1.1 (RFC 9112) that a scraper needs.
async fn answer_scrape(
    mut connection: impl AsyncRead + AsyncWrite + Unpin,
    text: impl Fn() -> ScrapeFuture,
) {
    let mut request = Vec::new();
    let read = async {
        while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX
        {
            if connection.read_buf(&mut request).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    if !matches!(timeout(CLIENT_TIMEOUT, read).await, Ok(Ok(()))) {
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
    let _ = timeout(CLIENT_TIMEOUT, write).await;
}

/// Serves the probe format. The returned future writes `lines` to each client, until the future is
/// dropped.
fn serve_probe(
    socket: UnixListener,
    lines: broadcast::Sender<Arc<str>>,
) -> io::Result<impl Future<Output = ()>> {
    let (connections, _) = accept::accept(socket.into())?;
    Ok(serve_readers(connections, lines))
}

/// Accepts the readers of the probe socket, and writes `lines` to each. Never returns.
async fn serve_readers(
    connections: impl Stream<Item = io::Result<UnixStream>>,
    lines: broadcast::Sender<Arc<str>>,
) {
    let mut connections = std::pin::pin!(connections);
    let mut readers = JoinSet::new();
    loop {
        tokio::select! {
            Some(Ok(connection)) = connections.next(), if readers.len() < CONNECTIONS_MAX => {
                readers.spawn(write_lines(connection, lines.subscribe()));
            }
            Some(_) = readers.join_next() => {}
        }
    }
}

/// Writes the lines of the probe format to one reader until it disconnects or is too slow.
async fn write_lines(mut connection: UnixStream, mut lines: broadcast::Receiver<Arc<str>>) {
    let mut ignored = [0; 64];
    loop {
        tokio::select! {
            line = lines.recv() => {
                // An error of `recv` means that the reader is more than `PROBE_LINES_MAX` lines
                // behind.
                let Ok(line) = line else { return };
                if connection.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
            // The reader of a probe socket sends nothing. A read that ends shows that it has
            // disconnected, even if no line is written.
            read = connection.read(&mut ignored) => {
                if matches!(read, Ok(0) | Err(_)) {
                    return;
                }
            }
        }
    }
}
