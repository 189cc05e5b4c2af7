//! One daemon's life: takes its place, reads the registry, serves until TERM.

use std::{path::PathBuf, sync::Arc, time::Duration};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use ttrpc::r#async::{Server, transport::Listener};

use super::{
    keeper::{self, Intervals},
    look::Looker,
    place::{self, PlaceError, Taken},
    service::Service,
    store::StoreError,
};
use crate::{
    accept, api, client,
    config::Config,
    log,
    observe::redact::{RedactError, Redactor},
};

/// How long answers that are under way may take after TERM.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// How a daemon's run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was told to.
    Ended,
    /// Another one runs, of this pid; this one did nothing.
    Runs(i32),
}

/// A daemon could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Its place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Its registry.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The patterns of the configuration.
    #[error("redact in the configuration")]
    Redact(#[from] RedactError),
    /// The socket's service.
    #[error("failed to serve")]
    Serve(#[from] ttrpc::Error),
    /// Something of the system.
    #[error("failed to start")]
    System(#[from] std::io::Error),
}

/// Serves until TERM or INT. `force` replaces a daemon that runs. Called before there are other threads.
///
/// # Errors
///
/// [`ServeError`] names what it could not begin with.
pub async fn run(config: &Config, force: bool) -> Result<Outcome, ServeError> {
    let settings = config.settings();
    let redactor = Redactor::new(&settings.redact)?;
    let socket = client::daemon::socket();
    let (place, listener) = match place::take(&socket, force)? {
        Taken::Theirs(pid) => return Ok(Outcome::Runs(pid)),
        Taken::Ours(place, listener) => (place, listener),
    };
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    log::to_stderr();
    raise_descriptors();
    let looker = Arc::new(Looker::new(redactor)?);
    let intervals = Intervals { liveness: settings.liveness_interval, last_seen: settings.last_seen_interval };
    let state: PathBuf = place::state_dir();
    let (handle, running) = keeper::start(&state, looker.boot, intervals)?;
    let service = Service::new(handle.clone(), looker);
    let (accepted, _) = accept::accept(listener.into())?;
    let mut server = Server::new()
        .add_listener(Listener::new(accepted))
        .register_service(api::registry::create_registry(Arc::new(service)));
    server.start().await?;
    tracing::info!(pid = std::process::id(), socket = %socket.display(), state = %state.display(), "serving");
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("leaving");
    server.stop_listen().await;
    let _ = tokio::time::timeout(LAST_ANSWERS, server.shutdown()).await;
    drop((server, handle));
    // After the last answer: nothing that was answered is lost, and nobody finds a socket that does not serve.
    drop(place);
    running.join();
    Ok(Outcome::Ended)
}

/// A descriptor for each process that is registered.
fn raise_descriptors() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
