//! The eBPF features of the running kernel, for `lookout doctor`.

use std::{fs, path::Path};

use libbpf_rs::{MapType, ProgramType};

use super::loader::KERNEL_TYPES;

/// The security modules that are active, one after the other (securityfs).
const SECURITY_MODULES: &str = "/sys/kernel/security/lsm";

/// The eBPF features of the running kernel. A feature is `None` if the kernel did not let this user
/// ask for it, or if securityfs is not mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// The kernel's own types, without which no program can be loaded (CONFIG_DEBUG_INFO_BTF).
    pub btf: bool,
    /// The ring buffer, through which all records come (Linux 5.8).
    pub ring_buffer: Option<bool>,
    /// Programs at the entry and exit of kernel functions (Linux 5.5). No source needs them.
    pub fentry: Option<bool>,
    /// Programs as security module: whether they can be loaded, and BPF is among the active modules
    /// (CONFIG_BPF_LSM and `lsm=…,bpf`). No source needs them.
    pub lsm: Option<bool>,
}

/// Asks the running kernel. Loads nothing that stays.
#[must_use]
pub fn features() -> Features {
    let is_active = || {
        let modules = fs::read_to_string(SECURITY_MODULES).ok()?;
        Some(modules.trim().split(',').any(|module| module == "bpf"))
    };
    Features {
        btf: Path::new(KERNEL_TYPES).exists(),
        ring_buffer: MapType::RingBuf.is_supported().ok(),
        fentry: ProgramType::Tracing.is_supported().ok(),
        lsm: match ProgramType::Lsm.is_supported() {
            Ok(true) => is_active(),
            Ok(false) => Some(false),
            Err(_) => None,
        },
    }
}
