//! The fuzz targets of encoded events and of the filters that read them.

use std::hint::black_box;

use super::filter::{FilterSpec, Filters, InvalidFilter};
use crate::{
    model::EVENT_TYPES,
    observe::encode::Encoded,
    wire::{Value, Writer, next_field},
};

/// Reads an encoded event as filters do, applies filters to it, and writes its fields again.
pub(crate) fn encoded_event(bytes: &[u8]) {
    for kind in 0..EVENT_TYPES.len() {
        let event = Encoded { seq: 1, monotonic_ns: 7, kind, bytes };
        black_box((event.container_id(), event.process(), event.status()));
        let mut batch = Vec::new();
        event.write(["label"].into_iter(), &mut batch);
        event.write([].into_iter(), &mut batch);
        assert!(batch.len() <= 2 * bytes.len() + 32);
        black_box(filters().admit(&event));
    }
    fields_are_written_as_they_were_read(bytes);
}

/// A filter for each field that is read from an event.
fn filters() -> Filters {
    let filter = FilterSpec::default;
    let wanted = [
        FilterSpec { container_id: "web".into(), ..filter() },
        FilterSpec { exec_id: Some("probe".into()), origin: "exec".into(), ..filter() },
        FilterSpec { executable: "sleep".into(), limit: 1, ..filter() },
        FilterSpec { failures: true, ..filter() },
    ];
    Filters::compile(&wanted).expect("they are valid")
}

fn fields_are_written_as_they_were_read(bytes: &[u8]) {
    let (mut rest, mut fields, mut written) = (bytes, Vec::new(), Vec::new());
    while let Some((number, value)) = next_field(&mut rest) {
        // A number above those of protobuf does not fit into the key that is written.
        if number >= 1 << 29 {
            return;
        }
        fields.push((number, value));
        let mut writer = Writer::new(&mut written);
        match value {
            Value::Number(value) => writer.optional_number(number, Some(value)),
            Value::Bytes(value) => writer.optional_bytes(number, Some(value)),
        }
    }
    let mut rest = &*written;
    let again: Vec<_> = std::iter::from_fn(|| next_field(&mut rest)).collect();
    assert!(rest.is_empty() && again == fields);
}

/// Prepares filters and applies them to events of each type, as often as their limits allow.
pub(crate) fn check_filters(wanted: &[FilterSpec]) -> Result<(), InvalidFilter> {
    let mut bytes = Vec::new();
    Writer::new(&mut bytes).message(1, |event| event.number(1, 1));
    let mut filters = Filters::compile(wanted)?;
    for kind in 0..EVENT_TYPES.len() {
        for monotonic_ns in [0, 1, u64::MAX] {
            let event = Encoded { seq: 1, monotonic_ns, kind, bytes: &bytes };
            if let Some(matched) = filters.admit(&event) {
                assert!(filters.labels(matched).count() <= wanted.len());
            }
        }
    }
    Ok(())
}
