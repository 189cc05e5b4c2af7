//! Tests of the shim from outside: the binary runs whole, as containerd runs it.
//!
//! `contract` tests what containerd relies on, `faults` what went wrong in other shims, `parity`
//! compares with the stock shim, and `root` tests what users of stock containerds see.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should end there")]
#![expect(clippy::disallowed_methods, reason = "tests are not a shim and spawn their own children")]

mod contract;
mod faults;
mod harness;
mod parity;
mod root;
