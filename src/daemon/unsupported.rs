//! The daemon on systems without pidfds: it does not start.

use super::RunOutcome;
use crate::config::Config;

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The daemon cannot notice the end of a process, so it would show dead processes as alive.
    #[error("the daemon runs on Linux only: on this system it cannot notice the end of a process")]
    Unsupported,
}

/// Does nothing: the daemon is not supported on this system.
///
/// # Errors
///
/// [`ServeError::Unsupported`], always.
pub async fn run(_config: &Config, _force: bool) -> Result<RunOutcome, ServeError> {
    Err(ServeError::Unsupported)
}
