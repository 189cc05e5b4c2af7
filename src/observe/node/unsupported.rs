//! An operating system on which no source works.

use crate::observe::{
    capability::Capabilities,
    source::{Source, SourceError},
};

/// Reports that nothing can be observed on this system.
#[must_use]
pub fn probe() -> Capabilities {
    Capabilities::unavailable("lookout cannot observe processes on this operating system")
}

/// Opens a source that belongs to the caller alone.
pub(in crate::observe) type Open = fn() -> Result<Box<dyn Source>, SourceError>;

/// How to open the sources of the library: there are none.
pub(in crate::observe) const SOURCES: [Open; 0] = [];
