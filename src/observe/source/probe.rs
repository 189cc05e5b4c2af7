//! Asks the running kernel.

use std::fs;

use nix::errno::Errno;

use super::connector;
use crate::observe::capability::{Capabilities, Probes};

/// Asks the running kernel. `bpf` is the probe of the eBPF programs, `udp` that of those that see
/// UDP; they are asked first, and the others even where they consent, because a source can end.
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

/// Whether the kernel lets this process listen on its proc connector. Asks with the request and
/// waits for its answer, at most a second; then stops listening.
///
/// # Errors
///
/// Why not, in one line.
pub fn probe_connector() -> Result<(), String> {
    connector::probe().map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED) => "not in the initial network namespace".to_owned(),
        Some(Errno::EPERM) => "CAP_NET_ADMIN is missing".to_owned(),
        Some(Errno::EPROTONOSUPPORT) => "this kernel has no connector".to_owned(),
        Some(Errno::ETIMEDOUT) => {
            "not in the initial pid and user namespace, or no CONFIG_PROC_EVENTS".to_owned()
        }
        _ => error.to_string(),
    })
}

/// Whether `/proc` tells of other users' processes as well.
///
/// # Errors
///
/// Why not, in one line.
pub fn probe_proc() -> Result<(), String> {
    // With `hidepid` pid 1 is what others do not see. What of a process may be read is asked of
    // each: an image that the kernel refuses says so.
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

        /// Check that the running kernel lets root in the initial namespaces use both.
        #[test]
        fn the_running_kernel_has_a_connector_and_proc() {
            let _alone = alone();
            let found = negotiate(|| Err("not asked".to_owned()), || false);
            assert_eq!(found.category(Category::Process).backend, "connector");
            assert_eq!(found.support(Category::Lifecycle), Support::Partial);
        }
    }
}
