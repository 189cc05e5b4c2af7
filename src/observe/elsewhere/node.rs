//! What can be observed here.

use crate::observe::capability::Capabilities;

/// Nothing, and why.
#[must_use]
pub fn probe() -> Capabilities {
    Capabilities::unavailable("not on this system: there is no source")
}
