//! The fuzz target of what a shim sends to its clients.

use std::hint::black_box;

use super::{Batch, json};
use crate::model::is_unsafe_to_print;

/// Finds the events of a batch, decodes each, and writes it as JSON.
pub(crate) fn batch(bytes: &[u8]) {
    let Ok(mut batch) = Batch::new(bytes.to_vec()) else { return };
    let mut longest = 0;
    for event in batch.iter() {
        longest = longest.max(event.bytes.len());
        let Ok(decoded) = event.decode() else { continue };
        let line = json::to_line(&json::Event::from(&decoded));
        // A line is valid JSON, and no byte of a container can end it or reach a terminal.
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
        assert!(!line.contains(is_unsafe_to_print), "{line:?}");
    }
    assert!(longest <= bytes.len());
    black_box((batch.take_containers(), batch.last().is_none()));
    batch.retain(|event| event.seq % 2 == 0);
}
