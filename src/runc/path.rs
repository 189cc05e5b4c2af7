//! Where the runtime's binary is.

use std::{
    env,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// No executable of that name where it was looked for.
#[derive(Debug, thiserror::Error)]
#[error("OCI runtime {name:?} not found: {}", if name.contains('/') { "no such executable" } else { "not in PATH" })]
pub struct NotFound {
    /// The name or path as it was configured.
    pub name: String,
}

/// The absolute path of the runtime `name`: as given where it has a slash, else from this
/// process's `PATH`. An empty name is `runc`.
///
/// # Errors
///
/// [`NotFound`], naming what was looked for.
pub fn find(name: &str) -> Result<PathBuf, NotFound> {
    let name = if name.is_empty() { "runc" } else { name };
    let candidates: Vec<PathBuf> = if name.contains('/') {
        std::path::absolute(name).into_iter().collect()
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
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
