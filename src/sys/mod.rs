//! System calls that no crate wraps safely, each behind a safe function.
//!
//! The only module with `unsafe`. Out come [`OwnedFd`](std::os::fd::OwnedFd) and
//! [`io::Result`](std::io::Result); nothing here keeps state and nothing here knows containerd.

#[cfg_attr(not(target_os = "linux"), path = "bell/elsewhere.rs")]
mod bell;
#[cfg(target_os = "linux")]
pub mod eventfd;
#[cfg(target_os = "linux")]
pub mod fd;
#[cfg(target_os = "linux")]
pub mod idmap;
#[cfg(target_os = "linux")]
pub mod pidfd;
#[cfg(target_os = "linux")]
pub mod pipe;
#[cfg(target_os = "linux")]
pub mod process;
#[cfg(target_os = "linux")]
pub mod pty;
#[cfg(target_os = "linux")]
pub mod socket_filter;
mod watched;

pub use bell::Bell;
pub use watched::watched;
