//! Runs the OCI runtime through its command line.
//!
//! There is one [`Runc`] per container and one method per verb. The arguments have the forms of
//! go-runc, which runc, crun and compatible runtimes accept. Each call runs in the bundle, in a
//! process group of its own, is killed when the shim dies, inherits no descriptor except its
//! stdio, and is waited for by the [reaper](crate::reaper). Calls run at the same time and share no
//! file: each has a log of its own.
//!
//! A failure becomes a [`RuntimeError`] with a [`Reason`]. The runtime's message is classified only
//! here; callers decide by the reason.
//!
//! This module does not track the state of a container, and it retries no call.

mod call;
mod capture;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod log;
mod options;
mod path;
mod scratch;
mod verbs;

pub use call::Cancel;
pub use error::{Reason, RuntimeError};
pub use options::{CheckpointOptions, Options, OptionsError};
pub use path::{NotFound, find};
pub use scratch::Scratch;
pub use verbs::{Checkpoint, Create, Exec, Restore};

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use crate::{model::ObservedContainer, reaper::Reaper};

/// The OCI runtime of one container: its binary, its options, and the path of its state.
#[derive(Debug, Clone)]
pub struct Runc {
    /// The configured name or path. The binary is searched at each call, because an upgrade may
    /// move it while the container lives.
    name: String,
    root: PathBuf,
    bundle: PathBuf,
    systemd_cgroup: bool,
    oom_score_adj: Option<i32>,
    reaper: Reaper,
    /// Receives each call; empty if the container is not observed.
    observer: OnceLock<Arc<dyn ObservedContainer>>,
}
