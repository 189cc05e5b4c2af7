//! Which sources there are.

use crate::observe::source::{Source, SourceError};

/// Opens a source of its own.
pub(in crate::observe) type Open = fn() -> Result<Box<dyn Source>, SourceError>;

/// What tells of ports outside any container.
pub(in crate::observe) const OF_PORTS: [Open; 0] = [];
