//! Finds the runtime's binary by name or path.

use std::{
    env,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// There is no executable with the configured name or path.
#[derive(Debug, thiserror::Error)]
#[error(
    "OCI runtime {name:?} not found: {}",
    if name.contains('/') { "no such executable" } else { "not in PATH" }
)]
pub struct NotFound {
    /// The name or path, as configured.
    pub name: String,
}

/// The absolute path of the runtime `name`. A name with a slash is a path; any other name is
/// searched in this process's `PATH`. An empty name means `runc`.
///
/// # Errors
///
/// [`NotFound`] if no file at the path or in `PATH` is executable.
pub fn find(name: &str) -> Result<PathBuf, NotFound> {
    let name = if name.is_empty() { "runc" } else { name };
    let candidates: Vec<PathBuf> = if name.contains('/') {
        std::path::absolute(name).into_iter().collect()
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            // The working directory is a bundle: a relative entry of PATH must not find a program
            // in it.
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .collect()
    };
    candidates
        .into_iter()
        .find(|path| is_executable(path))
        .ok_or_else(|| NotFound { name: name.into() })
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
