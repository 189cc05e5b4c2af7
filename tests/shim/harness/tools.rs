//! Third-party programs: stock shims, runtimes, a root filesystem. `hack/setup` installs them.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The path where `hack/setup` installed `name`.
///
/// # Panics
///
/// If it is missing, because a test that needs it would prove nothing.
#[track_caller]
pub(crate) fn tool(name: &str) -> PathBuf {
    let tools = env::var_os("LOOKOUT_TOOLS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools"), PathBuf::from);
    let path = tools.join(name);
    assert!(path.exists(), "{} is missing: run hack/setup", path.display());
    path
}

/// The shim under test.
pub(crate) const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-lookout-v2");
