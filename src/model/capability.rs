//! What can be observed on this node, by what, and why not more.

/// One category's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// Of what.
    pub category: Category,
    /// How far.
    pub support: Support,
    /// By what: a name such as `bpf`; `none` where there is nothing.
    pub backend: String,
    /// Why, in one line; says what is missing where support is not full.
    pub reason: String,
}

/// What can be observed, in the order of every listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Category {
    /// A process started and ended.
    Lifecycle,
    /// Files opened, written, removed.
    File,
    /// Connections and listening ports.
    Network,
    /// Every exec with its arguments, executable and identity.
    Process,
}

impl Category {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Lifecycle, Self::File, Self::Network, Self::Process];

    /// The word that listings use.
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

/// How far a category is observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Support {
    /// All that the category promises.
    Supported,
    /// Less; the reason says what is missing.
    Partial,
    /// Nothing.
    Unavailable,
}

impl Support {
    /// The word that listings use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Partial => "partial",
            Self::Unavailable => "unavailable",
        }
    }
}
