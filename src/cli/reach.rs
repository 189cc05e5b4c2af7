//! Which shims a command asks.

use futures::future::join_all;

use super::{
    args::Common,
    exit::{Exit, Failure},
    note,
};
use crate::{
    api::{Container, Filter},
    client::{Follow, Registration, Shim, ShimError, Step, Wanted, registrations, runtime_dir},
};

/// The shims of a node that answer, and whether some do not.
pub(super) struct Reach {
    pub(super) shims: Vec<Shim>,
    /// Told already; whether what is shown is all there is.
    pub(super) failed: bool,
}

/// The shims that live, of one namespace or of all.
pub(super) fn registered(namespace: Option<&str>) -> Result<Vec<Registration>, Failure> {
    let folder = runtime_dir();
    registrations(&folder, namespace).map_err(|error| {
        let context = format!("failed to read {}", folder.join("shims").display());
        Failure::Unreachable(anyhow::Error::new(error).context(context))
    })
}

impl Reach {
    /// Connects to all.
    pub(super) async fn all(namespace: Option<&str>, is_quiet: bool) -> Result<Self, Failure> {
        let mut reach = Self { shims: Vec::new(), failed: false };
        for shim in join_all(registered(namespace)?.into_iter().map(Shim::connect)).await {
            match shim {
                Ok(shim) => reach.shims.push(shim),
                Err(error) => reach.tell(error, is_quiet),
            }
        }
        Ok(reach)
    }

    /// Notes a shim that did not answer.
    pub(super) fn tell(&mut self, error: ShimError, is_quiet: bool) {
        self.failed = true;
        if !is_quiet {
            note(&format!("{:#}", anyhow::Error::from(error)));
        }
    }

    /// The shims that know a container; more than one where it is in several namespaces.
    pub(super) async fn of_container(mut self, id: &str, is_quiet: bool) -> Result<Self, Failure> {
        let shims = std::mem::take(&mut self.shims);
        let known = join_all(shims.iter().map(|shim| knows(shim, id))).await;
        for (shim, known) in shims.into_iter().zip(known) {
            match known {
                Ok(Some(_)) => self.shims.push(shim),
                Ok(None) => {}
                Err(error) => self.tell(error, is_quiet),
            }
        }
        match (self.shims.is_empty(), self.failed) {
            (false, _) => Ok(Self { failed: false, ..self }),
            (true, true) => Err(Failure::Unreachable(anyhow::anyhow!(
                "container {id} may be of a shim that does not answer"
            ))),
            (true, false) => Err(Failure::NotFound(id.to_owned())),
        }
    }

    /// The shims that a command asks.
    pub(super) async fn of(common: &Common) -> Result<Self, Failure> {
        let all = Self::all(common.namespace.as_deref(), common.look.quiet).await?;
        match &common.container {
            Some(id) => all.of_container(id, common.look.quiet).await,
            None => Ok(all),
        }
    }

    pub(super) fn exit(&self) -> Exit {
        if self.failed { Exit::Unreachable } else { Exit::Ok }
    }
}

/// What a shim knows of a container: by its processes, or by its journal where all have ended.
pub(super) async fn knows(shim: &Shim, id: &str) -> Result<Option<Container>, ShimError> {
    match shim.processes(id).await {
        Ok(answer) => {
            let mut containers =
                answer.processes.into_iter().filter_map(|one| one.container.into_option());
            if let Some(container) = containers.find(|container| container.id == id) {
                return Ok(Some(container));
            }
        }
        // It has no such container, or does not observe: its journal and its name are left.
        Err(error) if error.is_answer() => {}
        Err(error) => return Err(error),
    }
    let filter = Filter { container_id: id.to_owned(), ..Default::default() };
    let wanted = Wanted { filters: vec![filter], ..Default::default() };
    let mut journal = Follow::new(shim.registration.clone(), wanted);
    loop {
        match journal.next().await {
            Step::Events(events) => {
                let mut containers =
                    events.into_iter().filter_map(|event| event.container.into_option());
                if let Some(container) = containers.find(|container| container.id == id) {
                    return Ok(Some(container));
                }
            }
            Step::Broken(Some(error)) => return Err(error),
            Step::End | Step::Broken(None) => {
                // A shim is named after its first container, which it knows even where it observes
                // nothing.
                let registration = &shim.registration;
                let namespace = registration.namespace.clone();
                let container = Container { namespace, id: id.to_owned(), ..Default::default() };
                return Ok((registration.id == id).then_some(container));
            }
        }
    }
}
