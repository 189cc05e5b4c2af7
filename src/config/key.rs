//! The keys of the configuration, and who may set them.

use std::fmt;

/// One key. Its name in a file is [`as_str`](Key::as_str), in the environment `LOOKOUT_` and the
/// name in capitals, as an annotation `io.lookout.` and the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Key {
    /// Whether containers are watched.
    Observe,
    /// By what.
    Source,
    /// What goes to containerd's bus.
    Bus,
    /// How much the kernel can hold for one shim.
    RingSize,
    /// How much of the arguments is captured.
    ArgvMax,
    /// Patterns of secrets in arguments.
    Redact,
    /// How much a shim's journal of events holds.
    JournalMax,
    /// How long a container is quiet until it is idle.
    IdleAfter,
    /// Where the probe format is served.
    ProbeSocket,
    /// Where metrics are served.
    MetricsAddress,
    /// How often the daemon looks for what has died unseen.
    LivenessInterval,
    /// How often the daemon writes when it saw a process last.
    LastSeenInterval,
    /// Keys that only the host's configuration sets.
    Locked,
}

impl Key {
    /// All of them, in the order of every listing.
    pub const ALL: [Self; 13] = [
        Self::Observe,
        Self::Source,
        Self::Bus,
        Self::RingSize,
        Self::ArgvMax,
        Self::Redact,
        Self::JournalMax,
        Self::IdleAfter,
        Self::ProbeSocket,
        Self::MetricsAddress,
        Self::LivenessInterval,
        Self::LastSeenInterval,
        Self::Locked,
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Source => "source",
            Self::Bus => "bus",
            Self::RingSize => "ring_size",
            Self::ArgvMax => "argv_max",
            Self::Redact => "redact",
            Self::JournalMax => "journal_max",
            Self::IdleAfter => "idle_after",
            Self::ProbeSocket => "probe_socket",
            Self::MetricsAddress => "metrics_address",
            Self::LivenessInterval => "liveness_interval",
            Self::LastSeenInterval => "last_seen_interval",
            Self::Locked => "locked",
        }
    }

    /// The key of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.as_str() == name)
    }

    /// Its variable in the environment.
    #[must_use]
    pub fn variable(self) -> String {
        format!("LOOKOUT_{}", self.as_str().to_ascii_uppercase())
    }

    /// What a value has to be, for a message.
    #[must_use]
    pub fn wanted(self) -> &'static str {
        match self {
            Self::Observe => "on or off",
            Self::Source => "auto, bpf, connector or poll",
            Self::Bus => "ports, processes or none",
            Self::RingSize => "a power of two from 4KiB to 4MiB",
            Self::ArgvMax => "a size from 256 to 16KiB",
            Self::Redact => "at most 64 patterns of at most 512 bytes",
            Self::JournalMax => "a size from 64KiB to 64MiB",
            Self::IdleAfter => "a duration from 1s to 24h, such as 90s",
            Self::ProbeSocket => "an absolute path of at most 107 bytes",
            Self::MetricsAddress => "an address with a port, such as 127.0.0.1:9464",
            Self::LivenessInterval | Self::LastSeenInterval => {
                "a duration from 100ms to 24h, such as 15s"
            }
            Self::Locked => "names of keys",
        }
    }

    /// Whether the host's configuration alone sets it: `locked` would unlock itself otherwise.
    #[must_use]
    pub fn is_hosts(self) -> bool {
        matches!(self, Self::Locked)
    }

    /// Whether a container's annotations may set it. Not where the shim, which is root on the node,
    /// would open a socket at a place that whoever writes a pod's annotations chooses.
    #[must_use]
    pub fn is_containers(self) -> bool {
        match self {
            Self::Observe
            | Self::Source
            | Self::Bus
            | Self::RingSize
            | Self::ArgvMax
            | Self::Redact
            | Self::JournalMax
            | Self::IdleAfter => true,
            Self::ProbeSocket
            | Self::MetricsAddress
            | Self::LivenessInterval
            | Self::LastSeenInterval
            | Self::Locked => false,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
