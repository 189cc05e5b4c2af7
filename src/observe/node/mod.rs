//! Functions for the whole node and not for one shim: what the node can observe, and cleanup after
//! dead shims.

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        #[cfg(feature = "cli")]
        mod cgroups;
        mod linux;
        #[cfg(feature = "cli")]
        pub use cgroups::cgroup_mode;
        pub use linux::*;
    } else {
        mod unsupported;
        pub use unsupported::*;
    }
}
