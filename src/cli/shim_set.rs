//! Connects to the shims that a command asks.

use futures::future::join_all;

use super::{
    args::ContainerOptions,
    exit::{Exit, Failure},
    print_message,
};
use crate::{
    api::{Container, Filter},
    client::{
        EventFollower, FollowOptions, FollowStep, Registration, Shim, ShimError, registrations,
        runtime_dir,
    },
};

/// The shims that answered, and whether others did not.
pub(super) struct ShimSet {
    pub(super) shims: Vec<Shim>,
    /// Whether a shim did not answer. A warning has been printed for each of these shims.
    pub(super) has_failed: bool,
}

/// The registrations of the live shims of one containerd namespace, or of all namespaces.
pub(super) fn live_registrations(namespace: Option<&str>) -> Result<Vec<Registration>, Failure> {
    let directory = runtime_dir();
    registrations(&directory, namespace).map_err(|error| {
        let context = format!("failed to read {}", directory.join("shims").display());
        Failure::Unreachable(anyhow::Error::new(error).context(context))
    })
}

impl ShimSet {
    /// Connects to all live shims of one containerd namespace, or of all namespaces.
    pub(super) async fn connect_all(
        namespace: Option<&str>,
        is_quiet: bool,
    ) -> Result<Self, Failure> {
        let mut set = Self { shims: Vec::new(), has_failed: false };
        for shim in join_all(live_registrations(namespace)?.into_iter().map(Shim::connect)).await {
            match shim {
                Ok(shim) => set.shims.push(shim),
                Err(error) => set.report_unreachable(error, is_quiet),
            }
        }
        Ok(set)
    }

    /// Records that a shim did not answer, and prints a warning.
    pub(super) fn report_unreachable(&mut self, error: ShimError, is_quiet: bool) {
        self.has_failed = true;
        if !is_quiet {
            print_message(&format!("{:#}", anyhow::Error::from(error)));
        }
    }

    /// Keeps only the shims that have the container `id`. There may be several, in different
    /// containerd namespaces.
    pub(super) async fn with_container(
        mut self,
        id: &str,
        is_quiet: bool,
    ) -> Result<Self, Failure> {
        let shims = std::mem::take(&mut self.shims);
        let known = join_all(shims.iter().map(|shim| find_container(shim, id))).await;
        for (shim, known) in shims.into_iter().zip(known) {
            match known {
                Ok(Some(_)) => self.shims.push(shim),
                Ok(None) => {}
                Err(error) => self.report_unreachable(error, is_quiet),
            }
        }
        match (self.shims.is_empty(), self.has_failed) {
            // The container was found, so the shims that did not answer do not matter.
            (false, _) => Ok(Self { has_failed: false, ..self }),
            (true, true) => Err(Failure::Unreachable(anyhow::anyhow!(
                "container {id} not found, but not all shims answered"
            ))),
            (true, false) => Err(Failure::NotFound(id.to_owned())),
        }
    }

    /// Connects to the shims that the options of a command select.
    pub(super) async fn connect_selected(common: &ContainerOptions) -> Result<Self, Failure> {
        let all = Self::connect_all(common.namespace.as_deref(), common.display.quiet).await?;
        match &common.container {
            Some(id) => all.with_container(id, common.display.quiet).await,
            None => Ok(all),
        }
    }

    pub(super) fn exit_status(&self) -> Exit {
        if self.has_failed { Exit::Unreachable } else { Exit::Ok }
    }
}

/// The container `id`, as a shim describes it; `None` if the shim does not have the container. A
/// container without live processes is found in the journal of events.
pub(super) async fn find_container(shim: &Shim, id: &str) -> Result<Option<Container>, ShimError> {
    match shim.processes(id).await {
        Ok(answer) => {
            let mut containers =
                answer.processes.into_iter().filter_map(|one| one.container.into_option());
            if let Some(container) = containers.find(|container| container.id == id) {
                return Ok(Some(container));
            }
        }
        // The shim answers with an error if the container has no live process, or if it does not
        // observe the container. The journal may still have the container; otherwise the id of the
        // shim is compared.
        Err(error) if error.is_answer() => {}
        Err(error) => return Err(error),
    }
    let filter = Filter { container_id: id.to_owned(), ..Default::default() };
    let wanted = FollowOptions { filters: vec![filter], ..Default::default() };
    let mut journal = EventFollower::new(shim.registration.clone(), wanted);
    loop {
        match journal.next().await {
            FollowStep::Events(events) => {
                let mut containers =
                    events.into_iter().filter_map(|event| event.container.into_option());
                if let Some(container) = containers.find(|container| container.id == id) {
                    return Ok(Some(container));
                }
            }
            FollowStep::Broken(Some(error)) => return Err(error),
            FollowStep::End | FollowStep::Broken(None) => {
                // The id of a shim is the id of its first container, even if the shim observes
                // nothing.
                let registration = &shim.registration;
                let namespace = registration.namespace.clone();
                let container = Container { namespace, id: id.to_owned(), ..Default::default() };
                return Ok((registration.id == id).then_some(container));
            }
        }
    }
}
