//! `lookout report -o perfetto`: a trace in the protobuf format of Perfetto, which
//! <https://ui.perfetto.dev> opens.
//!
//! The few fields that are needed are written by hand. Their numbers are those of
//! `protos/perfetto/trace` in Perfetto's repository; a test reads a trace with Perfetto's own
//! classes.

use protobuf::{CodedOutputStream, rt::WireType};

use super::model::{Gap, Port, Process, Report, State, Time};
use crate::model::{printable::safe_text, rfc3339};

/// `trace.proto`: `Trace`.
const TRACE_PACKET: u32 = 1;
/// `trace_packet.proto`: `TracePacket`.
mod packet {
    pub(super) const CLOCK_SNAPSHOT: u32 = 6;
    pub(super) const TIMESTAMP: u32 = 8;
    pub(super) const TRUSTED_PACKET_SEQUENCE_ID: u32 = 10;
    pub(super) const TRACK_EVENT: u32 = 11;
    pub(super) const TRACK_DESCRIPTOR: u32 = 60;
}
/// `clock_snapshot.proto`: `ClockSnapshot`, and `ClockSnapshot.Clock`.
mod clock {
    pub(super) const CLOCKS: u32 = 1;
    pub(super) const CLOCK_ID: u32 = 1;
    pub(super) const TIMESTAMP: u32 = 2;
    /// `builtin_clock.proto`.
    pub(super) const REALTIME: u32 = 1;
    /// The clock of a packet that names none.
    pub(super) const BOOTTIME: u32 = 6;
}
/// `track_event/track_descriptor.proto`: `TrackDescriptor`.
mod track {
    pub(super) const UUID: u32 = 1;
    pub(super) const NAME: u32 = 2;
    pub(super) const PARENT_UUID: u32 = 5;
    pub(super) const SIBLING_MERGE_BEHAVIOR: u32 = 15;
    /// Otherwise siblings of one name share a track.
    pub(super) const SIBLING_MERGE_BEHAVIOR_NONE: i32 = 2;
}
/// `track_event/track_event.proto`: `TrackEvent`.
mod track_event {
    pub(super) const DEBUG_ANNOTATIONS: u32 = 4;
    pub(super) const TYPE: u32 = 9;
    pub(super) const TRACK_UUID: u32 = 11;
    pub(super) const CATEGORIES: u32 = 22;
    pub(super) const NAME: u32 = 23;
    pub(super) const SLICE_BEGIN: i32 = 1;
    pub(super) const SLICE_END: i32 = 2;
    pub(super) const INSTANT: i32 = 3;
}
/// `track_event/debug_annotation.proto`: `DebugAnnotation`.
mod annotation {
    pub(super) const BOOL_VALUE: u32 = 2;
    pub(super) const INT_VALUE: u32 = 4;
    pub(super) const STRING_VALUE: u32 = 6;
    pub(super) const NAME: u32 = 10;
    pub(super) const ARRAY_VALUES: u32 = 12;
}

/// The tracks beside those of the processes, which have numbers from 16 on.
const CONTAINER: u64 = 1;
const PORTS: u64 = 2;
const GAPS: u64 = 3;
const PROCESSES: u64 = 16;
/// Packets without a sequence are refused; any number will do for the only one.
const SEQUENCE: u32 = 1;
/// How many characters of a command the name of a track and of a slice has.
const NAME_MAX: usize = 80;

/// The value of an argument of a slice.
enum Value<'a> {
    Bool(bool),
    Int(i64),
    Text(&'a str),
    Texts(&'a [String]),
}

/// Writes the trace.
pub(super) fn trace(report: &Report) -> Vec<u8> {
    let mut trace = Trace { bytes: Vec::new(), first_uuid: first_uuid(report) };
    trace.clocks(report.from.0);
    trace.track(CONTAINER, None, &safe_text(report.title().as_bytes()));
    for process in &report.processes {
        trace.process(process);
    }
    if !report.ports.is_empty() {
        trace.track(PORTS, Some(CONTAINER), "ports");
    }
    for port in &report.ports {
        trace.port(port);
    }
    if !report.gaps.is_empty() {
        trace.track(GAPS, Some(CONTAINER), "gaps");
    }
    for gap in &report.gaps {
        trace.gap(gap);
    }
    trace.bytes
}

/// Traces of several containers can be put into one file, so each has numbers of its own: the
/// FNV-1a hash of the container's name, with 24 bits for its tracks.
fn first_uuid(report: &Report) -> u64 {
    let name = format!("{}/{}", report.container.namespace, report.container.id);
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash << 24
}

struct Trace {
    bytes: Vec<u8>,
    first_uuid: u64,
}

impl Trace {
    /// The times of all events are `CLOCK_REALTIME`. They are given as the default clock, and the
    /// snapshot says that both are equal.
    fn clocks(&mut self, time_ns: u64) {
        let clock = |id: u32| {
            message(|out| {
                out.write_uint32(clock::CLOCK_ID, id)?;
                out.write_uint64(clock::TIMESTAMP, time_ns)
            })
        };
        let snapshot = message(|out| {
            out.write_bytes(clock::CLOCKS, &clock(clock::BOOTTIME))?;
            out.write_bytes(clock::CLOCKS, &clock(clock::REALTIME))
        });
        self.packet(Some(time_ns), packet::CLOCK_SNAPSHOT, &snapshot);
    }

    fn track(&mut self, track: u64, parent: Option<u64>, name: &str) {
        let first = self.first_uuid;
        let descriptor = message(|out| {
            out.write_uint64(track::UUID, first.wrapping_add(track))?;
            out.write_string(track::NAME, name)?;
            if let Some(parent) = parent {
                out.write_uint64(track::PARENT_UUID, first.wrapping_add(parent))?;
            }
            out.write_enum(track::SIBLING_MERGE_BEHAVIOR, track::SIBLING_MERGE_BEHAVIOR_NONE)
        });
        self.packet(None, packet::TRACK_DESCRIPTOR, &descriptor);
    }

    fn process(&mut self, process: &Process) {
        let command = shortened(&process.program.command);
        let track = PROCESSES + process.id as u64;
        let parent = process.parent.map_or(CONTAINER, |parent| PROCESSES + parent as u64);
        self.track(track, Some(parent), &format!("{} {command}", process.pid));
        let status = process.status_text();
        let mut args = vec![("pid", Value::Int(process.pid.into()))];
        if let Some(executable) = &process.program.executable {
            args.push(("executable", Value::Text(executable)));
        }
        args.push(("argv", Value::Texts(&process.program.command_args)));
        args.push(("origin", Value::Text(&process.origin)));
        if !process.exec_id.is_empty() {
            args.push(("exec_id", Value::Text(&process.exec_id)));
        }
        if !process.entity_id.is_empty() {
            args.push(("entity_id", Value::Text(&process.entity_id)));
        }
        args.push(("state", Value::Text(&status)));
        if let Some(status) = process.status {
            args.push(("exit_status", Value::Int(status.into())));
        }
        if process.is_fork {
            args.push(("is_fork", Value::Bool(true)));
        }
        let (start_ns, end_ns) = process.bar;
        let category = if process.is_failure() { "failure" } else { "process" };
        self.event(start_ns, track_event::SLICE_BEGIN, track, Some((category, &command)), &args);
        self.event(end_ns, track_event::SLICE_END, track, None, &[]);
    }

    fn port(&mut self, port: &Port) {
        let endpoint = safe_text(port.endpoint().as_bytes());
        let mut args = vec![
            ("port", Value::Int(port.port.into())),
            ("address", Value::Text(&port.address)),
            ("transport", Value::Text(&port.transport)),
        ];
        if let Some(owner) = port.owners.first() {
            args.push(("pid", Value::Int(owner.pid.into())));
            if let Some(executable) = &owner.executable {
                args.push(("executable", Value::Text(executable)));
            }
        }
        let mut instant = |time: Option<Time>, what: &str| {
            let Some(time) = time else { return };
            let name = format!("{what} {endpoint}");
            self.event(time.0, track_event::INSTANT, PORTS, Some(("port", &name)), &args);
        };
        instant(port.open.or(Some(Time(port.bar.0))), "open");
        instant(port.close, "close");
        if port.state == State::Unknown {
            instant(Some(Time(port.bar.1)), "close");
        }
    }

    fn gap(&mut self, gap: &Gap) {
        let (from, to) = (rfc3339(gap.from.0), rfc3339(gap.to.0));
        let mut args = vec![
            ("stage", Value::Text(&gap.stage)),
            ("from", Value::Text(&from)),
            ("to", Value::Text(&to)),
        ];
        if let Some(lost) = gap.lost {
            args.push(("lost", Value::Int(lost.try_into().unwrap_or(i64::MAX))));
        }
        let name = gap.lost_text();
        self.event(gap.from.0, track_event::INSTANT, GAPS, Some(("gap", &name)), &args);
    }

    /// Writes an event of a track, with its category and its name.
    fn event(
        &mut self,
        time_ns: u64,
        kind: i32,
        track: u64,
        name: Option<(&str, &str)>,
        args: &[(&str, Value<'_>)],
    ) {
        let uuid = self.first_uuid.wrapping_add(track);
        let event = message(|out| {
            for (name, value) in args {
                out.write_bytes(track_event::DEBUG_ANNOTATIONS, &argument(Some(name), value))?;
            }
            out.write_enum(track_event::TYPE, kind)?;
            out.write_uint64(track_event::TRACK_UUID, uuid)?;
            if let Some((category, name)) = name {
                out.write_string(track_event::CATEGORIES, category)?;
                out.write_string(track_event::NAME, name)?;
            }
            Ok(())
        });
        self.packet(Some(time_ns), packet::TRACK_EVENT, &event);
    }

    fn packet(&mut self, time_ns: Option<u64>, field: u32, content: &[u8]) {
        let packet = message(|out| {
            if let Some(time_ns) = time_ns {
                out.write_uint64(packet::TIMESTAMP, time_ns)?;
            }
            out.write_uint32(packet::TRUSTED_PACKET_SEQUENCE_ID, SEQUENCE)?;
            out.write_bytes(field, content)
        });
        let head = message(|out| {
            out.write_tag(TRACE_PACKET, WireType::LengthDelimited)?;
            out.write_raw_varint64(packet.len() as u64)
        });
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(&packet);
    }
}

/// An argument, or an item of one, which has no name.
fn argument(name: Option<&str>, value: &Value<'_>) -> Vec<u8> {
    message(|out| {
        if let Some(name) = name {
            out.write_string(annotation::NAME, name)?;
        }
        match value {
            Value::Bool(value) => out.write_bool(annotation::BOOL_VALUE, *value),
            Value::Int(value) => out.write_int64(annotation::INT_VALUE, *value),
            Value::Text(text) => {
                out.write_string(annotation::STRING_VALUE, &safe_text(text.as_bytes()))
            }
            Value::Texts(texts) => texts.iter().try_for_each(|text| {
                out.write_bytes(annotation::ARRAY_VALUES, &argument(None, &Value::Text(text)))
            }),
        }
    })
}

/// The bytes of a message.
fn message(write: impl FnOnce(&mut CodedOutputStream<'_>) -> protobuf::Result<()>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut out = CodedOutputStream::vec(&mut bytes);
    write(&mut out).and_then(|()| out.flush()).expect("a vector takes every write");
    drop(out);
    bytes
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(NAME_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
