//! A client of the node's daemon: the location of its socket, and its Registry service.

use std::{
    env, io, mem,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::timeout;
use ttrpc::{r#async::transport::Socket, context};

use super::AccessDenied;
use crate::{
    api::{self, registry::RegistryClient},
    registration,
    registry::entry::Entry,
};

/// How long the daemon may take to answer a request. The limit is generous, because an update is
/// synced to disk before it is answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How many entries one `List` request asks for.
const ENTRIES_PER_PAGE: u32 = 2000;

/// The path of the daemon's socket: `$LOOKOUT_SOCKET`, else `daemon.sock` in [`daemon_directory`].
#[must_use]
pub fn socket_path() -> PathBuf {
    env_path("LOOKOUT_SOCKET").unwrap_or_else(|| daemon_directory().join("daemon.sock"))
}

/// The directory of the daemon's sockets and pid file: `$LOOKOUT_RUNTIME_DIR`, else `/run/lookout`
/// for root, else `$XDG_RUNTIME_DIR/lookout`, else `/run/user/UID/lookout`.
#[must_use]
pub fn daemon_directory() -> PathBuf {
    let uid = nix::unistd::geteuid();
    if uid.is_root() || env_path("LOOKOUT_RUNTIME_DIR").is_some() {
        return registration::runtime_dir();
    }
    let user = || PathBuf::from(format!("/run/user/{uid}"));
    env_path("XDG_RUNTIME_DIR").unwrap_or_else(user).join("lookout")
}

/// The value of an environment variable as a path; `None` if it is unset or empty.
fn env_path(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// A connection to the daemon.
#[derive(Clone)]
pub struct Daemon {
    pub(super) client: RegistryClient,
    pub(super) socket: PathBuf,
}

/// Why a request to the daemon failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// No process listens at the daemon's socket, or there is no such socket.
    #[error(
        "no daemon{} answers at {}: start one with `lookout daemon`{}",
        if *is_users { " of this user" } else { "" },
        socket.display(),
        if *is_users { ", or run this command as root to ask root's daemon" } else { "" }
    )]
    NotRunning {
        /// The path of the daemon's socket.
        socket: PathBuf,
        /// Whether this is the socket of a user's own daemon. Root's daemon may be running.
        is_users: bool,
    },
    /// This user may not connect to the daemon's socket.
    #[error("failed to connect to the daemon at {}", socket.display())]
    Denied {
        /// The path of the daemon's socket.
        socket: PathBuf,
        /// What denies the access.
        #[source]
        denied: AccessDenied,
    },
    /// Connecting to the daemon's socket failed for another reason.
    #[error("failed to connect to the daemon at {}", socket.display())]
    Unreachable {
        /// The path of the daemon's socket.
        socket: PathBuf,
        /// The error of connect(2).
        #[source]
        source: io::Error,
    },
    /// The daemon did not answer in time.
    #[error("the daemon at {} did not answer within {} ms", socket.display(), limit.as_millis())]
    TimedOut {
        /// The path of the daemon's socket.
        socket: PathBuf,
        /// How long the client has waited for the answer.
        limit: Duration,
    },
    /// The daemon answered with an error.
    #[error("{message}")]
    Refused {
        /// The kind of the error, as a gRPC status code.
        code: ttrpc::Code,
        /// The reason, as the daemon words it for users.
        message: String,
    },
    /// The connection broke before the answer, so it is unknown whether the request took effect.
    #[error("lost the connection to the daemon before it answered")]
    ConnectionLost(#[source] ttrpc::Error),
}

/// Defines a method of [`Daemon`] for each request that has one answer.
macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $answer:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// [`DaemonError`].
        pub async fn $name(&self, request: &api::$request) -> Result<api::$answer, DaemonError> {
            let context = context::with_duration(ANSWER_TIMEOUT);
            self.await_answer(ANSWER_TIMEOUT, self.client.$name(context, request)).await
        }
    )*};
}

impl Daemon {
    /// Connects to the daemon that serves at `socket`.
    ///
    /// # Errors
    ///
    /// [`DaemonError::NotRunning`], [`DaemonError::Denied`], [`DaemonError::Unreachable`] or
    /// [`DaemonError::TimedOut`].
    pub async fn connect(socket: &Path) -> Result<Self, DaemonError> {
        let address = format!("unix://{}", socket.display());
        // `Client::connect` would turn the error into text.
        match timeout(ANSWER_TIMEOUT, Socket::connect(&address)).await {
            Ok(Ok(connection)) => {
                let client = RegistryClient::new(ttrpc::r#async::Client::new(connection));
                Ok(Self { client, socket: socket.to_owned() })
            }
            Ok(Err(error)) => Err(DaemonError::of_connect(socket, error)),
            Err(_) => {
                Err(DaemonError::TimedOut { socket: socket.to_owned(), limit: ANSWER_TIMEOUT })
            }
        }
    }

    /// Checks that the daemon answers within `limit`.
    ///
    /// # Errors
    ///
    /// [`DaemonError`].
    pub async fn ping(&self, limit: Duration) -> Result<api::PingResponse, DaemonError> {
        let request = api::PingRequest::new();
        self.await_answer(limit, self.client.ping(context::with_duration(limit), &request)).await
    }

    requests! {
        /// Registers one process and returns its new entry.
        add(AddRequest) -> AddResponse;
        /// Changes or removes all entries that the request selects, or none of them.
        update(UpdateRequest) -> UpdateResponse;
        /// Sends a signal to the processes of all entries that the request selects.
        kill(KillRequest) -> KillResponse;
        /// Adds entries of a snapshot, under new ids.
        load(LoadRequest) -> LoadResponse;
        /// Removes all entries from the registry.
        reset(ResetRequest) -> ResetResponse;
    }

    /// Samples the CPU time, memory, I/O, descriptors and threads of processes, from all pages of
    /// the answer. `page` of the request is ignored.
    ///
    /// # Errors
    ///
    /// [`DaemonError`].
    pub async fn sample(
        &self,
        request: &api::SampleRequest,
    ) -> Result<Vec<api::Usage>, DaemonError> {
        let mut usages = Vec::new();
        let mut request = api::SampleRequest { page: String::new(), ..request.clone() };
        loop {
            let call = self.client.sample(context::with_duration(ANSWER_TIMEOUT), &request);
            let mut page = self.await_answer(ANSWER_TIMEOUT, call).await?;
            usages.append(&mut page.usages);
            if page.next.is_empty() {
                return Ok(usages);
            }
            request.page = page.next;
        }
    }

    /// Lists the processes of the node's containers, from all pages of the answer.
    ///
    /// # Errors
    ///
    /// [`DaemonError`].
    pub async fn node_processes(&self) -> Result<api::NodeProcessesResponse, DaemonError> {
        let mut all = api::NodeProcessesResponse::new();
        loop {
            let request =
                api::NodeProcessesRequest { page: mem::take(&mut all.next), ..Default::default() };
            let call = self.client.node_processes(context::with_duration(ANSWER_TIMEOUT), &request);
            let mut page = self.await_answer(ANSWER_TIMEOUT, call).await?;
            all.processes.append(&mut page.processes);
            all.shims.append(&mut page.shims);
            all.idle.append(&mut page.idle);
            if page.next.is_empty() {
                return Ok(all);
            }
            all.next = page.next;
        }
    }

    /// Lists the open ports of the node's containers, from all pages of the answer.
    ///
    /// # Errors
    ///
    /// [`DaemonError`].
    pub async fn node_ports(&self) -> Result<api::NodePortsResponse, DaemonError> {
        let mut all = api::NodePortsResponse::new();
        loop {
            let request =
                api::NodePortsRequest { page: mem::take(&mut all.next), ..Default::default() };
            let call = self.client.node_ports(context::with_duration(ANSWER_TIMEOUT), &request);
            let mut page = self.await_answer(ANSWER_TIMEOUT, call).await?;
            all.ports.append(&mut page.ports);
            all.shims.append(&mut page.shims);
            if page.next.is_empty() {
                return Ok(all);
            }
            all.next = page.next;
        }
    }

    /// Lists all entries that `selector` selects, in the order of their ids. Requests them page by
    /// page.
    ///
    /// # Errors
    ///
    /// [`DaemonError`].
    pub async fn list(&self, selector: &api::Selector) -> Result<Vec<Entry>, DaemonError> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let request = api::ListRequest {
                selector: Some(selector.clone()).into(),
                after_id: entries.last().map_or(0, |entry| entry.id),
                limit: ENTRIES_PER_PAGE,
                ..Default::default()
            };
            let call = self.client.list(context::with_duration(ANSWER_TIMEOUT), &request);
            let page = self.await_answer(ANSWER_TIMEOUT, call).await?;
            entries.extend(page.entries.into_iter().map(Entry::from));
            if !page.more {
                return Ok(entries);
            }
        }
    }

    /// Waits for the answer to `call`, at most for `limit`.
    pub(super) async fn await_answer<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = ttrpc::Result<T>>,
    ) -> Result<T, DaemonError> {
        match timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer),
            // The crate ttrpc reports an expired deadline as a status, as if the daemon had sent
            // it.
            Ok(Err(ttrpc::Error::RpcStatus(status)))
                if status.code() == ttrpc::Code::DEADLINE_EXCEEDED =>
            {
                Err(DaemonError::TimedOut { socket: self.socket.clone(), limit })
            }
            Ok(Err(ttrpc::Error::RpcStatus(status))) => {
                Err(DaemonError::Refused { code: status.code(), message: status.message })
            }
            Ok(Err(error)) => Err(DaemonError::ConnectionLost(error)),
            Err(_) => Err(DaemonError::TimedOut { socket: self.socket.clone(), limit }),
        }
    }
}

impl DaemonError {
    /// The error of connecting to `socket`.
    fn of_connect(socket: &Path, error: io::Error) -> Self {
        let denied = AccessDenied::from_error(socket, &error);
        let socket = socket.to_owned();
        match (denied, error.kind()) {
            (Some(denied), _) => Self::Denied { socket, denied },
            (None, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                let is_users = !nix::unistd::geteuid().is_root()
                    && env_path("LOOKOUT_SOCKET").is_none()
                    && env_path("LOOKOUT_RUNTIME_DIR").is_none();
                Self::NotRunning { socket, is_users }
            }
            (None, _) => Self::Unreachable { socket, source: error },
        }
    }

    /// Whether the daemon answered that there is no such process or entry.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.has_code(ttrpc::Code::NOT_FOUND)
    }

    /// Whether the daemon answered that the request is invalid.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        self.has_code(ttrpc::Code::INVALID_ARGUMENT)
    }

    /// Whether this error is an answer of the daemon. `false` if the daemon could not be reached or
    /// the connection was lost.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    fn has_code(&self, wanted: ttrpc::Code) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted)
    }
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Daemon").field("socket", &self.socket).finish_non_exhaustive()
    }
}
