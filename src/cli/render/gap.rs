//! Formats a gap, and a duration.

use crate::{api::Gap, model::printable};

/// Describes a gap.
pub(in crate::cli) fn lost(gap: &Gap) -> String {
    let lost = gap.lost.map_or_else(|| "an unknown number".to_owned(), |lost| lost.to_string());
    let stage = printable::text(gap.stage.as_bytes());
    // The begin of a gap in the journal is not known.
    if gap.from_ns == 0 {
        return format!("{lost} lost: {stage}");
    }
    format!("{lost} lost: {stage}, {}", millis(gap.to_ns.saturating_sub(gap.from_ns)))
}

/// A duration in milliseconds with three decimals, rounded down.
pub(super) fn millis(ns: u64) -> String {
    format!("{}.{:03} ms", ns / 1_000_000, ns / 1000 % 1000)
}
