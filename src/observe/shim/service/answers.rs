//! The responses that can be large. They are written as bytes, without the generated messages.

use super::{LiveProcesses, OpenPort};
use crate::{
    observe::encode::{Encoder, write_container},
    wire::Writer,
};

/// A `ProcessesResponse`. The arguments of each process are cut to about `args_max` bytes.
pub(super) fn processes(encoder: Encoder<'_>, living: &LiveProcesses, args_max: usize) -> Vec<u8> {
    let mut answer = Vec::new();
    // The numbers here and below are the field numbers of `observer.proto`.
    let mut writer = Writer::new(&mut answer);
    for (container, process) in &living.processes {
        writer.message(1, |writer| {
            writer.message(1, |writer| write_container(container, writer));
            writer.message(2, |writer| {
                encoder.write_process(process, Some(container), args_max, writer)
            });
        });
    }
    writer.bytes(2, encoder.epoch());
    writer.number(3, living.seq);
    for container in &living.idle {
        writer.message(4, |writer| write_container(container, writer));
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
