//! Pressure stall information (Documentation/accounting/psi.rst).

use containerd_shim_protos::{
    cgroups_v2::metrics::{PSIData, PSIStats},
    protobuf::MessageField,
};

use super::{dir::Dir, file_format};

/// Reads a file such as `cpu.pressure`. `None` if the kernel keeps no such statistics (`psi=0`).
pub(super) fn read(dir: &Dir, file: &str) -> Option<PSIStats> {
    parse(&dir.content(file)?)
}

/// Parses lines such as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`.
///
/// Averages are percentages over the last 10, 60 and 300 s; `total` is in µs. `None` if any value
/// is malformed, as in the Go library.
pub(super) fn parse(content: &[u8]) -> Option<PSIStats> {
    let mut stats = PSIStats::default();
    for line in file_format::lines(content) {
        let (kind, values) = line.split_once(' ').unwrap_or((line, ""));
        let field = match kind {
            "some" => &mut stats.some,
            "full" => &mut stats.full,
            _ => continue,
        };
        *field = MessageField::some(averages(values)?);
    }
    Some(stats)
}

fn averages(values: &str) -> Option<PSIData> {
    let mut data = PSIData::default();
    for pair in values.split_ascii_whitespace() {
        let (key, value) = pair.split_once('=')?;
        match key {
            "avg10" => data.avg10 = value.parse().ok()?,
            "avg60" => data.avg60 = value.parse().ok()?,
            "avg300" => data.avg300 = value.parse().ok()?,
            "total" => data.total = value.parse().ok()?,
            _ => {}
        }
    }
    Some(data)
}

#[cfg(test)]
mod tests;
