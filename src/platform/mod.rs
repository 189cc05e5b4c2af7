//! What the portable part of the crate asks of the operating system.
//!
//! This is the one place where the crate is divided by operating system: `linux` reads the kernel's
//! files, `unsupported` returns errors or nothing. Both export the same names, so the modules that
//! are compiled everywhere use `platform::…` without a `cfg`. Modules that exist on Linux only use
//! [`linux`](crate::linux) directly.
//!
//! ```text
//!  process          identity, image, ancestry, open files and reaping of processes
//!  cgroup           the cgroups below a directory, by id
//!  sockets          the kernel's list of sockets
//!  RaisedPriority   a higher scheduling priority for a thread, limited in time
//!  Waker            makes another thread's poll(2) return
//!  DirectoryWatch   reports changes in directories
//!  lock             files with flock(2), which every Unix has
//!  boottime_ns      the time since boot
//!  HAS_SHIMS        whether shims can run here
//! ```
//!
//! A further system (Windows with ETW, macOS with DTrace) gets a module beside these two and a
//! source in `observe::source`.

pub mod lock;

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        mod linux;
        pub use linux::*;
    } else {
        mod unsupported;
        pub use unsupported::*;
    }
}
