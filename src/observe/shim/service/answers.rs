//! The responses that can be large. They are written as bytes, without the generated messages.

use super::{LiveProcesses, OpenPort, OpenPorts};
use crate::{
    api::field_numbers::{container_port, container_process, ports_response, processes_response},
    observe::encode::{Encoder, write_container},
    wire::Writer,
};

/// A `ProcessesResponse`: one page, which ends with the first process that makes it larger than
/// `page_min` bytes.
pub(super) fn processes(encoder: Encoder<'_>, living: &LiveProcesses, page_min: usize) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut left = living.processes.iter();
    let mut next = None;
    for (position, container, process) in left.by_ref() {
        Writer::new(&mut answer).message(processes_response::PROCESSES, |writer| {
            writer
                .message(container_process::CONTAINER, |writer| write_container(container, writer));
            writer.message(container_process::PROCESS, |writer| {
                encoder.write_process(process, Some(container), writer)
            });
        });
        if answer.len() > page_min {
            next = Some(position);
            break;
        }
    }
    let is_last = left.next().is_none();
    let mut writer = Writer::new(&mut answer);
    writer.bytes(processes_response::EPOCH, encoder.epoch());
    writer.number(processes_response::SEQ, living.seq);
    for container in &living.idle {
        writer.message(processes_response::IDLE, |writer| write_container(container, writer));
    }
    if let Some(next) = next.filter(|_| !is_last) {
        writer.bytes(processes_response::NEXT, next.to_string().as_bytes());
    }
    answer
}

/// A `PortsResponse`: one page, which ends with the first port that makes it larger than `page_min`
/// bytes.
pub(super) fn ports(encoder: Encoder<'_>, open: &OpenPorts, page_min: usize) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut left = open.ports.iter();
    let mut last = None;
    for OpenPort { position, container, port } in left.by_ref() {
        Writer::new(&mut answer).message(ports_response::PORTS, |writer| {
            writer.message(container_port::CONTAINER, |writer| write_container(container, writer));
            writer.message(container_port::PORT, |writer| encoder.write_port(port, writer));
            writer.flag(container_port::LISTED_ONLY, position.key.listed_only);
        });
        last = Some(position);
        if answer.len() > page_min {
            break;
        }
    }
    let is_last = open.is_last && left.next().is_none();
    let mut writer = Writer::new(&mut answer);
    writer.bytes(ports_response::EPOCH, encoder.epoch());
    writer.number(ports_response::SEQ, open.seq);
    let next = last.filter(|_| !is_last).and_then(|last| serde_json::to_string(last).ok());
    writer.bytes(ports_response::NEXT, next.unwrap_or_default());
    answer
}
