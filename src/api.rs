//! The project's own messages and services, generated from `proto/lookout/v1`. The comments in the
//! proto files are their reference.

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
    reason = "each generated file has a descriptor function of that name, which is not used"
)]
pub use generated::{
    observer::*, observer_ttrpc as observer, registry::*, registry_ttrpc as registry,
};

/// The numbers of the fields of each message, for code that encodes or reads messages by hand.
pub mod field_numbers {
    include!(concat!(env!("OUT_DIR"), "/field_numbers.rs"));
}

impl Container {
    /// Whether it has any of the fields that a stream gives once for each container.
    #[must_use]
    pub fn is_described(&self) -> bool {
        let Self { k8s, name, image, annotations, .. } = self;
        k8s.is_some() || !(name.is_empty() && image.is_empty() && annotations.is_empty())
    }

    /// Takes those fields from another description of the same container.
    pub fn describe(&mut self, from: &Self) {
        self.k8s.clone_from(&from.k8s);
        self.name.clone_from(&from.name);
        self.image.clone_from(&from.image);
        self.annotations.clone_from(&from.annotations);
    }
}
