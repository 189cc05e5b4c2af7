//! Formats a gap in the stream of events, and a duration.

use crate::{api::Gap, model::printable};

/// Describes a gap: how many records or events were lost, where, and in which time.
pub(in crate::cli) fn gap_text(gap: &Gap) -> String {
    let lost = gap.lost.map_or_else(|| "an unknown number".to_owned(), |lost| lost.to_string());
    let stage = printable::safe_text(gap.stage.as_bytes());
    // It is not known when the losses of a gap in the journal began.
    if gap.from_ns == 0 {
        return format!("{lost} lost: {stage}");
    }
    format!("{lost} lost: {stage}, {}", millis_text(gap.to_ns.saturating_sub(gap.from_ns)))
}

/// A duration in milliseconds with three decimals, rounded down.
pub(super) fn millis_text(ns: u64) -> String {
    format!("{}.{:03} ms", ns / 1_000_000, ns / 1000 % 1000)
}
