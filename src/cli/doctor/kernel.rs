//! The kernel, its eBPF features, and how its cgroups are mounted.

use serde::Serialize;

use crate::observe::{node, source::bpf::Features};

/// What the node's kernel offers. A feature is absent if it could not be asked for.
#[derive(Debug, Serialize)]
pub(super) struct Kernel {
    /// The release, as `uname -r` prints it.
    release: String,
    btf: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ring_buffer: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fentry: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lsm: Option<bool>,
    /// `v1`, `hybrid`, `v2` or `none`: which versions of cgroups are mounted. Absent if the mounts
    /// cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroups: Option<&'static str>,
}

impl Kernel {
    pub(super) fn ask() -> Self {
        let release = nix::sys::utsname::uname().ok();
        let release = release.map(|names| names.release().to_string_lossy().into_owned());
        let Features { btf, ring_buffer, fentry, lsm } = node::kernel_features();
        Self {
            release: release.unwrap_or_default(),
            btf,
            ring_buffer,
            fentry,
            lsm,
            cgroups: node::cgroup_mode(),
        }
    }

    /// What is missing for eBPF, and what to do.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.btf {
            warnings.push(
                "the kernel has no BTF, so eBPF is not used: boot a kernel that was built with \
                 CONFIG_DEBUG_INFO_BTF (`grep BTF /boot/config-$(uname -r)` shows it)"
                    .to_owned(),
            );
        }
        if self.ring_buffer == Some(false) {
            warnings.push(
                "the kernel has no BPF ring buffer, so eBPF is not used: boot Linux 6.1 or later"
                    .to_owned(),
            );
        }
        warnings
    }

    /// The lines of the table.
    pub(super) fn lines(&self) -> String {
        let word = |feature: Option<bool>| match feature {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        };
        format!(
            "kernel    {}: BTF {}, ring buffer {}, fentry {}, BPF LSM {}\ncgroups   {}\n",
            self.release,
            word(Some(self.btf)),
            word(self.ring_buffer),
            word(self.fentry),
            word(self.lsm),
            self.cgroups.unwrap_or("unknown")
        )
    }
}
