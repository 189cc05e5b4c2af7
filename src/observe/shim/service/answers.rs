//! The responses that can be large. They are written as bytes, without the generated messages.

use super::{LiveProcesses, OpenPort};
use crate::{
    observe::encode::{Encoder, write_container},
    wire::Writer,
};

/// A `ProcessesResponse`: one page, which ends with the first process that makes it larger than
/// `page_min` bytes.
pub(super) fn processes(encoder: Encoder<'_>, living: &LiveProcesses, page_min: usize) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut left = living.processes.iter();
    let mut next = None;
    // The numbers here and below are the field numbers of `observer.proto`.
    for (position, container, process) in left.by_ref() {
        Writer::new(&mut answer).message(1, |writer| {
            writer.message(1, |writer| write_container(container, writer));
            writer.message(2, |writer| encoder.write_process(process, Some(container), writer));
        });
        if answer.len() > page_min {
            next = Some(position);
            break;
        }
    }
    let is_last = left.next().is_none();
    let mut writer = Writer::new(&mut answer);
    writer.bytes(2, encoder.epoch());
    writer.number(3, living.seq);
    for container in &living.idle {
        writer.message(4, |writer| write_container(container, writer));
    }
    if let Some(next) = next.filter(|_| !is_last) {
        writer.bytes(5, next.to_string().as_bytes());
    }
    answer
}

/// A `PortsResponse` with the open ports.
pub(super) fn ports(encoder: Encoder<'_>, open: &[OpenPort], seq: u64) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut writer = Writer::new(&mut answer);
    for OpenPort { container, port, listed_only } in open {
        writer.message(1, |writer| {
            writer.message(1, |writer| write_container(container, writer));
            writer.message(2, |writer| encoder.write_port(port, writer));
            writer.flag(3, *listed_only);
        });
    }
    writer.bytes(2, encoder.epoch());
    writer.number(3, seq);
    answer
}
