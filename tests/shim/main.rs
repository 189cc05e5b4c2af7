//! The shim from outside: the binary is run whole, as containerd runs it.
//!
//! `contract` is what containerd may rely on, `faults` what went wrong in other shims, `parity` a
//! comparison with the stock shim, `root` what users of stock containerds see.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should end there")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests are no shim: they spawn their children themselves"
)]

mod contract;
mod faults;
mod harness;
mod parity;
mod root;
