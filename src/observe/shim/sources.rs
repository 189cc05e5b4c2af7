//! Which source: the best that the settings allow and the node has.

use std::io;

use super::shared::Shared;
use crate::{
    config::{Settings, SourceChoice},
    model::Backend,
    observe::{
        capability::{Capabilities, Probes, refusal},
        source::{
            Source, SourceError,
            bpf::{self, BpfSource},
            connector::{self, ConnectorSource},
            poll::{self, PollSource},
            probe::probe_connector,
        },
    },
    registration::runtime_dir,
};

/// The verb that loads the node's programs.
pub const LOAD_PROGRAMS: &str = "load-programs";

/// The verb that is the node's one listener on the proc connector.
pub const LISTEN_CONNECTOR: &str = "listen-connector";

/// Does what [`LOAD_PROGRAMS`] says, in a process that ends then.
///
/// # Errors
///
/// What the kernel refused.
pub fn load_programs() -> Result<(), SourceError> {
    bpf::load(&bpf::bpffs()?)
}

/// Does what [`LISTEN_CONNECTOR`] says, in a process of its own, until no shim needs it any more.
///
/// # Errors
///
/// What the kernel refused.
pub fn listen_connector() -> io::Result<()> {
    connector::serve(&runtime_dir())
}

/// Opens the best source, and says what that can.
pub(super) fn open(shared: &Shared) -> Result<Box<dyn Source>, SourceError> {
    open_after(shared, None)
}

/// A source has ended: the next one down.
pub(super) fn replace(
    shared: &Shared,
    backend: Backend,
    error: SourceError,
) -> Result<Box<dyn Source>, SourceError> {
    tracing::warn!(source = backend.as_str(), error = refusal(&error), "a source has ended");
    open_after(shared, Some((backend, error)))
}

/// The sources in order, each with why the ones before it cannot be had.
fn open_after(
    shared: &Shared,
    ended: Option<(Backend, SourceError)>,
) -> Result<Box<dyn Source>, SourceError> {
    let wanted: &[Backend] = match shared.settings.source {
        SourceChoice::Auto => &[Backend::Bpf, Backend::Connector, Backend::Poll],
        SourceChoice::Bpf => &[Backend::Bpf],
        SourceChoice::Connector => &[Backend::Connector],
        SourceChoice::Poll => &[Backend::Poll],
    };
    // The node's listener can be had anew; what else has ended has ended for good.
    let ended_for_good = ended.as_ref().filter(|(backend, _)| *backend != Backend::Connector);
    let skip =
        ended_for_good.and_then(|(backend, _)| wanted.iter().position(|wanted| wanted == backend));
    let not_asked = || Err("not asked for".to_owned());
    let mut probes =
        Probes { bpf: not_asked(), udp: false, connector: not_asked(), proc: not_asked() };
    let mut last = ended.map(|(backend, error)| {
        *answer(&mut probes, backend) = Err(format!("ended: {}", refusal(&error)));
        error
    });
    for backend in wanted.iter().skip(skip.map_or(0, |index| index + 1)) {
        match open_one(shared, *backend) {
            Ok(source) => {
                *answer(&mut probes, *backend) = Ok(());
                probes.udp = source.sees_udp();
                // Whatever works without the programs has read it.
                probes.proc = Ok(());
                tracing::info!(source = backend.as_str(), "observing");
                shared.can(Capabilities::from_probes(&probes).categories().to_vec());
                return Ok(source);
            }
            Err(error) => {
                let why = refusal(&error);
                tracing::info!(source = backend.as_str(), why, "cannot observe by this");
                *answer(&mut probes, *backend) = Err(why);
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or(SourceError::Missing { what: "a source of process events" }))
}

fn answer(probes: &mut Probes, backend: Backend) -> &mut Result<(), String> {
    match backend {
        Backend::Bpf => &mut probes.bpf,
        Backend::Connector => &mut probes.connector,
        _ => &mut probes.proc,
    }
}

fn open_one(shared: &Shared, backend: Backend) -> Result<Box<dyn Source>, SourceError> {
    Ok(match backend {
        Backend::Bpf => {
            let load = &mut || shared.helpers.run(LOAD_PROGRAMS);
            let mut source = BpfSource::open(&bpf::bpffs()?, shared.settings.ring_size, load)?;
            if shared.settings.argv_max > Settings::default().argv_max {
                source.capture_args(shared.settings.argv_max)?;
            }
            Box::new(source)
        }
        Backend::Connector => {
            // Asked here, because a listener that is refused only ends.
            probe_connector().map_err(|why| SourceError::Kernel {
                action: "listen on the proc connector",
                source: io::Error::other(why),
            })?;
            let listen = &mut || shared.helpers.start(LISTEN_CONNECTOR);
            Box::new(ConnectorSource::connect(&runtime_dir(), listen)?)
        }
        _ => Box::new(PollSource::new(poll::INTERVAL)),
    })
}
