//! System calls that no crate wraps safely, each behind a safe function.
//!
//! This is the only module with `unsafe`. Its functions return [`OwnedFd`](std::os::fd::OwnedFd)
//! and [`io::Result`](std::io::Result). They keep no state (except `nofile`), and do not depend on
//! containerd.

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        pub mod bpf;
        pub mod capabilities;
        pub mod confine;
        pub mod eventfd;
        pub mod fd;
        pub mod file;
        pub mod idmap;
        pub mod loop_device;
        pub mod nofile;
        mod page;
        pub mod pidfd;
        pub mod pipe;
        pub mod priority;
        pub mod process;
        pub mod pty;
        pub mod regular_file;
        pub mod seccomp;
        pub mod socket;
        pub mod socket_filter;

        pub use page::page_size;
    }
}
mod watched;

pub use watched::watched;
