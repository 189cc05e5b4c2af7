//! What can be observed on a node, by which source, and why no more can be observed.

/// How much of one category can be observed on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// The category of events.
    pub category: Category,
    /// How much of the category is observed.
    pub support: Support,
    /// The name of the source, such as `bpf`; `none` if nothing is observed.
    pub backend: String,
    /// Why the support is what it is, in one line. Names what is missing if the support is not
    /// full.
    pub reason: String,
}

/// A category of events, in the order of every listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Category {
    /// Starts and exits of processes.
    Lifecycle,
    /// Files that are opened, written or removed.
    File,
    /// Connections and listening ports of TCP and UDP.
    Network,
    /// Every exec, with its arguments, executable and user.
    Process,
}

impl Category {
    /// All categories, in the order of every listing.
    pub const ALL: [Self; 4] = [Self::Lifecycle, Self::File, Self::Network, Self::Process];

    /// The category's name in listings and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::File => "file",
            Self::Network => "network",
            Self::Process => "process",
        }
    }
}

/// How much of a category is observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Support {
    /// Everything that belongs to the category is observed.
    Supported,
    /// A part of the category is observed; [`Capability::reason`] names what is missing.
    Partial,
    /// Nothing of the category is observed.
    Unavailable,
}

impl Support {
    /// The name of the support in listings and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Partial => "partial",
            Self::Unavailable => "unavailable",
        }
    }
}
