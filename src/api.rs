//! Our own messages and services, generated from `proto/lookout/v1`, where their meaning is
//! written.

#[expect(
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated; proto/ is the reference"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/api/mod.rs"));
}

#[expect(
    ambiguous_glob_reexports,
    reason = "each file has a descriptor of that name, and nobody here asks for one"
)]
pub use generated::{
    observer::*, observer_ttrpc as observer, registry::*, registry_ttrpc as registry,
};
