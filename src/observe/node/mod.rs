//! What concerns the node rather than one shim: what it can observe, and what dead shims have left.

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        mod linux;
        pub use linux::*;
    } else {
        mod unsupported;
        pub use unsupported::*;
    }
}
