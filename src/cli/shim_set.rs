//! Connects to the shims that a command asks.

use std::collections::HashMap;

use futures::future::join_all;

use super::{exit::Failure, print_message};
use crate::{
    api::Container,
    client::{Registration, Shim, ShimError, registrations, runtime_dir},
};

/// The shims that answered, and whether others did not.
pub(super) struct ShimSet {
    pub(super) shims: Vec<Shim>,
    /// Whether a shim did not answer. A warning has been printed for each of these shims.
    pub(super) has_failed: bool,
}

/// The registrations of the live shims of one containerd namespace, or of all namespaces.
pub(super) fn live_registrations(namespace: Option<&str>) -> Result<Vec<Registration>, Failure> {
    registrations(&runtime_dir(), namespace).map_err(Failure::of_registrations)
}

impl ShimSet {
    /// Connects to all live shims of one containerd namespace, or of all namespaces.
    pub(super) async fn connect_all(
        namespace: Option<&str>,
        is_quiet: bool,
    ) -> Result<Self, Failure> {
        Ok(Self::connect(live_registrations(namespace)?, is_quiet).await)
    }

    /// Connects to these shims.
    pub(super) async fn connect(registrations: Vec<Registration>, is_quiet: bool) -> Self {
        let mut set = Self { shims: Vec::new(), has_failed: false };
        for shim in join_all(registrations.into_iter().map(Shim::connect)).await {
            match shim {
                Ok(shim) => set.shims.push(shim),
                Err(error) => set.report_unreachable(error, is_quiet),
            }
        }
        set
    }

    /// Records that a shim did not answer, and prints a warning.
    pub(super) fn report_unreachable(&mut self, error: ShimError, is_quiet: bool) {
        self.has_failed = true;
        if !is_quiet {
            print_message(&format!("{:#}", anyhow::Error::from(error)));
        }
    }

    /// What the configurations of the shims' containers say about them.
    pub(super) async fn descriptions(&self) -> Descriptions {
        let mut described = HashMap::new();
        // A shim that does not greet has been reported as unreachable by then, or ends.
        for hello in join_all(self.shims.iter().map(Shim::hello)).await.into_iter().flatten() {
            for container in hello.containers {
                let key = (container.namespace.clone(), container.id.clone());
                described.insert(key, container);
            }
        }
        Descriptions(described)
    }

    pub(super) fn registrations(&self) -> Vec<Registration> {
        self.shims.iter().map(|shim| shim.registration.clone()).collect()
    }
}

/// What the configurations of containers say about them, by namespace and id in containerd.
pub(super) struct Descriptions(HashMap<(String, String), Container>);

impl Descriptions {
    /// Adds its description to a container.
    pub(super) fn complete(&self, container: Option<&mut Container>) {
        let Some(container) = container else { return };
        let key = (container.namespace.clone(), container.id.clone());
        if let Some(described) = self.0.get(&key) {
            container.describe(described);
        }
    }
}
