//! The node's daemon: where its socket is, and what it answers.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::timeout;
use ttrpc::context;

use crate::{
    api::{self, registry::RegistryClient},
    registration,
    registry::entry::Entry,
};

/// How long the daemon may take to answer: an answer may wait for a disk.
const ANSWER: Duration = Duration::from_secs(30);

/// Entries of one page.
const PAGE: u32 = 2000;

/// The daemon's socket: `$LOOKOUT_SOCKET`; else `daemon.sock` in the run-time folder, which is a
/// user's own for a user.
#[must_use]
pub fn socket() -> PathBuf {
    set("LOOKOUT_SOCKET").unwrap_or_else(|| folder().join("daemon.sock"))
}

/// `$LOOKOUT_RUNTIME_DIR`, else `/run/lookout` for root, else `$XDG_RUNTIME_DIR/lookout`, else
/// `/run/user/UID/lookout`.
#[must_use]
pub fn folder() -> PathBuf {
    let uid = nix::unistd::geteuid();
    if uid.is_root() || set("LOOKOUT_RUNTIME_DIR").is_some() {
        return registration::runtime_dir();
    }
    let user = || PathBuf::from(format!("/run/user/{uid}"));
    set("XDG_RUNTIME_DIR").unwrap_or_else(user).join("lookout")
}

fn set(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// A connection to the daemon.
#[derive(Clone)]
pub struct Daemon {
    client: RegistryClient,
    socket: PathBuf,
}

/// The daemon did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// Nobody serves.
    #[error("no daemon answers at {}: start one with `lookout daemon`", socket.display())]
    Unreachable {
        /// Where.
        socket: PathBuf,
        /// Why.
        #[source]
        source: ttrpc::Error,
    },
    /// It is there and does not answer.
    #[error("the daemon at {} did not answer within {} ms", socket.display(), limit.as_millis())]
    Silent {
        /// Where.
        socket: PathBuf,
        /// After how long.
        limit: Duration,
    },
    /// It refused.
    #[error("{message}")]
    Refused {
        /// Why, as gRPC has it.
        code: ttrpc::Code,
        /// Why, in words.
        message: String,
    },
    /// The connection broke: whether it was done is not known.
    #[error("lost the daemon before it answered")]
    Lost(#[source] ttrpc::Error),
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $answer:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// [`DaemonError`].
        pub async fn $name(&self, request: &api::$request) -> Result<api::$answer, DaemonError> {
            self.answer(ANSWER, self.client.$name(context::with_duration(ANSWER), request)).await
        }
    )*};
}

impl Daemon {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`DaemonError::Unreachable`], or [`DaemonError::Silent`].
    pub async fn connect(socket: &Path) -> Result<Self, DaemonError> {
        let address = format!("unix://{}", socket.display());
        let socket = socket.to_owned();
        match timeout(ANSWER, ttrpc::r#async::Client::connect(&address)).await {
            Ok(Ok(client)) => Ok(Self { client: RegistryClient::new(client), socket }),
            Ok(Err(source)) => Err(DaemonError::Unreachable { socket, source }),
            Err(_) => Err(DaemonError::Silent { socket, limit: ANSWER }),
        }
    }

    /// Whether it is there, within a time.
    ///
    /// # Errors
    ///
    /// [`DaemonError`].
    pub async fn ping(&self, limit: Duration) -> Result<api::PingResponse, DaemonError> {
        let request = api::PingRequest::new();
        self.answer(limit, self.client.ping(context::with_duration(limit), &request)).await
    }

    calls! {
        /// Registers a process.
        add(AddRequest) -> AddResponse;
        /// Changes or removes entries.
        update(UpdateRequest) -> UpdateResponse;
        /// Sends a signal.
        kill(KillRequest) -> KillResponse;
        /// What processes use.
        sample(SampleRequest) -> SampleResponse;
        /// Adds entries of a snapshot.
        load(LoadRequest) -> LoadResponse;
        /// Removes every entry.
        reset(ResetRequest) -> ResetResponse;
        /// The processes of the node's containers.
        node_processes(NodeProcessesRequest) -> NodeProcessesResponse;
        /// The open ports of the node's containers.
        node_ports(NodePortsRequest) -> NodePortsResponse;
    }

    /// All entries that match, in the order of their ids.
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
                limit: PAGE,
                ..Default::default()
            };
            let call = self.client.list(context::with_duration(ANSWER), &request);
            let page = self.answer(ANSWER, call).await?;
            entries.extend(page.entries.into_iter().map(Entry::from));
            if !page.more {
                return Ok(entries);
            }
        }
    }

    async fn answer<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = ttrpc::Result<T>>,
    ) -> Result<T, DaemonError> {
        match timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(ttrpc::Error::RpcStatus(status)))
                if status.code() == ttrpc::Code::DEADLINE_EXCEEDED =>
            {
                Err(DaemonError::Silent { socket: self.socket.clone(), limit })
            }
            Ok(Err(ttrpc::Error::RpcStatus(status))) => {
                Err(DaemonError::Refused { code: status.code(), message: status.message })
            }
            Ok(Err(error)) => Err(DaemonError::Lost(error)),
            Err(_) => Err(DaemonError::Silent { socket: self.socket.clone(), limit }),
        }
    }
}

impl DaemonError {
    /// Whether it answered that there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.is(ttrpc::Code::NOT_FOUND)
    }

    /// Whether it answered that what it was asked makes no sense.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        self.is(ttrpc::Code::INVALID_ARGUMENT)
    }

    /// Whether it answered at all.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    fn is(&self, wanted: ttrpc::Code) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted)
    }
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Daemon").field("socket", &self.socket).finish_non_exhaustive()
    }
}
