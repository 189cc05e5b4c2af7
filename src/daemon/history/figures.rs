//! Figures of the history, for the metrics.

use prometheus_client::{
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

/// Figures of the history; all 0 if it is off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistoryFigures {
    /// Bytes of the database and its write-ahead log.
    pub bytes: u64,
    /// Events that were stored since the daemon started, including gaps.
    pub stored: u64,
    /// Events that the shims have sent since then and that were not stored.
    pub lost: u64,
    /// Whether events are stored now.
    pub is_available: bool,
}

impl HistoryFigures {
    /// Adds the metrics of the history.
    pub fn register(&self, registry: &mut Registry) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        registry.register_with_unit(
            "history_size",
            "Size of the history on disk",
            Unit::Bytes,
            ConstGauge::new(number(self.bytes)),
        );
        registry.register(
            "history_available",
            "Whether events are stored in the history now",
            ConstGauge::new(i64::from(self.is_available)),
        );
        registry.register(
            "history_stored_events",
            "Events that were stored in the history",
            ConstCounter::new(self.stored),
        );
        registry.register(
            "history_lost_events",
            "Events that were not stored in the history",
            ConstCounter::new(self.lost),
        );
    }
}
