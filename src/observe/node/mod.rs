//! Functions for the whole node and not for one shim: what the node can observe, and cleanup after
//! dead shims.

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        mod linux;
        pub use linux::*;
    } else {
        mod unsupported;
        pub use unsupported::*;
    }
}
