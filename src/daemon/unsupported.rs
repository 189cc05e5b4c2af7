//! The daemon where nothing can hold a process or tell of its end: it does not begin.

use super::Outcome;
use crate::config::Config;

/// A daemon could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A registry that never learns of an end would lie.
    #[error("the daemon runs on Linux only: nothing on this system tells it how a process ends")]
    Unsupported,
}

/// Refuses.
///
/// # Errors
///
/// [`ServeError::Unsupported`].
pub async fn run(_config: &Config, _force: bool) -> Result<Outcome, ServeError> {
    Err(ServeError::Unsupported)
}
