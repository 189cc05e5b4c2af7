//! Containers that lookout runs and does not observe.
//!
//! The shim of such a container may have no registration, because `observe = off` makes no file. It
//! is found by its process and by the bundle of the container, which has the address of the shim.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::exit::Failure;
use crate::{
    client::{Registration, Shim, json::Capability},
    model::lossless,
    platform::process::{identify, image, pid_namespace, pids},
};

/// The file name of the shim's program.
const SHIM: &[u8] = b"containerd-shim-lookout-v2";

/// What the address of a shim has at most: a socket's path has 107 bytes.
const ADDRESS_MAX: usize = 256;

/// The failure to report for the container `id`, of which no shim has anything to show: that it is
/// not observed and why, or that there is no such container.
pub(super) async fn explain(id: &str) -> Failure {
    // The id becomes a part of a path.
    let is_name = !id.is_empty() && id != ".." && id != "." && !id.contains(['/', '\0']);
    for directory in bundle_directories().into_iter().filter(|_| is_name) {
        let Some(address) = address_in(&directory.join(id)) else { continue };
        let Some(observed) = ask_shim(id, address).await else { continue };
        let namespace = directory.file_name().unwrap_or_default();
        let namespace = lossless(namespace.as_encoded_bytes()).into_owned();
        return Failure::Unobserved { id: id.to_owned(), namespace, reason: reason(&observed) };
    }
    Failure::NotFound(id.to_owned())
}

/// The directories of the bundles of all shims of lookout that run: one for each containerd and
/// namespace. A shim runs in the bundle of its first container.
fn bundle_directories() -> BTreeSet<PathBuf> {
    let ours = pid_namespace(std::process::id().cast_signed());
    let directory = |pid: i32| {
        // A process of a container must not be able to pose as a shim.
        if pid_namespace(pid) != ours {
            return None;
        }
        let (image, _) = image(pid, identify(pid)?);
        let program = image.executable?.to_vec();
        let is_shim = program.rsplit(|byte| *byte == b'/').next() == Some(SHIM);
        let bundle = image.working_directory.filter(|_| is_shim)?.to_vec();
        Path::new(&*String::from_utf8_lossy(&bundle)).parent().map(Path::to_owned)
    };
    pids().unwrap_or_default().into_iter().filter_map(directory).collect()
}

/// The address of the shim of a bundle.
fn address_in(bundle: &Path) -> Option<String> {
    let address = fs::read_to_string(bundle.join("address")).ok()?;
    Some(address).filter(|address| address.starts_with("unix://") && address.len() <= ADDRESS_MAX)
}

/// What the shim at `address` observes; `None` if it does not answer, or is not one of lookout.
async fn ask_shim(id: &str, address: String) -> Option<Vec<Capability>> {
    let registration = Registration {
        namespace: String::new(),
        id: id.to_owned(),
        pid: 0,
        start: 0,
        address,
        epoch: String::new(),
        version: String::new(),
    };
    let answer = Shim::connect(registration).await.ok()?.capabilities().await.ok()?;
    Some(answer.categories.iter().map(Capability::from).collect())
}

/// Why the container is not observed, and what to do.
fn reason(observed: &[Capability]) -> String {
    let invalid = observed.iter().find(|one| one.reason.starts_with("the configuration"));
    match invalid {
        Some(Capability { reason, .. }) => format!(
            "{reason}. Correct it (`lookout config show` checks it), and create the container again"
        ),
        None => "`observe` is off for it, by its annotation io.lookout.observe, by the options of \
                 its runtime, or by the host's configuration (`lookout config show observe`). Set \
                 it to on there, and create the container again"
            .to_owned(),
    }
}
