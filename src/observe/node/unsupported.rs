//! A system without a source of its own.

use crate::observe::{
    capability::Capabilities,
    source::{Source, SourceError},
};

/// Nothing can be observed, and why.
#[must_use]
pub fn probe() -> Capabilities {
    Capabilities::unavailable("there is no source for this system")
}

/// Opens a source of its own.
pub(in crate::observe) type Open = fn() -> Result<Box<dyn Source>, SourceError>;

/// The sources of port events outside a container, the best first: none.
pub(in crate::observe) const PORT_SOURCES: [Open; 0] = [];
