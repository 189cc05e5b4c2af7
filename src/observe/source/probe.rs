//! Finds out which sources the running kernel offers.

use std::fs;

use nix::errno::Errno;

use super::connector;
use crate::observe::capability::{Capabilities, Probes};

/// Probes all sources and returns what they can observe.
///
/// `bpf` probes for the eBPF programs and `udp` for the programs that see UDP. The other sources
/// are probed even if `bpf` succeeds, because they replace the eBPF source if it fails later.
#[must_use]
pub fn negotiate(
    bpf: impl FnOnce() -> Result<(), String>,
    udp: impl FnOnce() -> bool,
) -> Capabilities {
    Capabilities::from_probes(&Probes {
        bpf: bpf(),
        udp: udp(),
        connector: probe_connector(),
        proc: probe_proc(),
    })
}

/// Checks that the kernel lets this process listen on its proc connector. Sends the request, waits
/// at most one second for the answer, and stops listening again.
///
/// # Errors
///
/// The reason in one line.
pub fn probe_connector() -> Result<(), String> {
    connector::probe().map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED) => "not in the initial network namespace".to_owned(),
        Some(Errno::EPERM) => "CAP_NET_ADMIN is missing".to_owned(),
        Some(Errno::EPROTONOSUPPORT) => "this kernel has no connector".to_owned(),
        // The kernel drops the request without an answer in these cases.
        Some(Errno::ETIMEDOUT) => {
            "not in the initial pid and user namespace, or no CONFIG_PROC_EVENTS".to_owned()
        }
        _ => error.to_string(),
    })
}

/// Checks that `/proc` shows the processes of other users too.
///
/// # Errors
///
/// The reason in one line.
pub fn probe_proc() -> Result<(), String> {
    // Only pid 1 is read, because a `hidepid` mount hides it from other users. Which files of a
    // single process may be read is not probed: the image of a process has the reason if the kernel
    // refuses a part.
    fs::read("/proc/1/stat").map(drop).map_err(|error| format!("/proc cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    mod root {
        use super::super::*;
        use crate::{
            model::{Category, Support},
            observe::source::connector::tests::alone,
        };

        /// Check that the running kernel lets root in the initial namespaces use the connector and
        /// `/proc`.
        #[test]
        fn the_running_kernel_has_a_connector_and_proc() {
            let _alone = alone();
            let found = negotiate(|| Err("not probed".to_owned()), || false);
            assert_eq!(found.category(Category::Process).backend, "connector");
            assert_eq!(found.support(Category::Lifecycle), Support::Partial);
        }
    }
}
