//! The settings and services that all containers of a shim share, in one struct.

use std::sync::Arc;

use crate::{model::ContainerObserver, publish::Publisher, reaper::Reaper};

/// The settings and services that all containers of a shim share.
#[derive(Debug)]
pub struct Shared {
    /// containerd's namespace, with which the shim was started.
    pub namespace: String,
    /// Spawns every child of the shim and waits for it.
    pub reaper: Reaper,
    /// Sends task events to containerd.
    pub publisher: Publisher,
    /// The `oom_score_adj` of containers that set no score of their own: containerd's score, not
    /// the shim's. With `None` they inherit the shim's score.
    pub container_oom_score_adj: Option<i32>,
    /// The observer of the containers; `None` if the shim observes nothing.
    pub watch: Option<Arc<dyn ContainerObserver>>,
}
