//! The JSON form of events, processes, ports, exits and capabilities.
//!
//! Objects are nested so that the dotted path of a field is its OpenTelemetry name. A field is
//! absent if it does not apply or is unknown; the event's grade shows whether facts are unknown. A
//! count is `null` if the source does not count.
//!
//! Characters that are unsafe in a terminal are written as `\uXXXX`. Bytes that are not UTF-8 are
//! escaped by [`escaped`](crate::model::escaped), and the process has `"escaped": true`. In such a
//! process every text that comes from bytes is escaped, so that a reader can decode all of them by
//! one rule.

mod attribution;
mod port;
mod process;

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

pub use port::OpenPort;
pub use process::{ListedProcess, ProbeObject};

use self::{
    attribution::Attribution,
    port::Port,
    process::{Parent, Process},
};
use crate::{
    api::{self, event::Body},
    model::{self, is_unsafe_to_print, rfc3339},
};

/// Serialises a value as one line of JSON that is safe to print on a terminal.
///
/// # Panics
///
/// If a map of the value has keys that are not strings. The types of this module have none.
#[must_use]
pub fn to_line(value: &impl Serialize) -> String {
    let mut bytes = Vec::with_capacity(512);
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, TerminalSafe);
    value.serialize(&mut serializer).expect("keys are strings, and a write to a vector succeeds");
    String::from_utf8(bytes).expect("serde_json writes UTF-8")
}

/// A compact formatter of JSON that escapes the characters that are unsafe to print. serde_json
/// itself escapes C0 only: it writes DEL, C1 and all other characters as they are.
struct TerminalSafe;

impl Formatter for TerminalSafe {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_unsafe_to_print) {
            let (before, from) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut characters = from.chars();
            // A character outside the Basic Multilingual Plane (above U+FFFF) takes two escapes in
            // JSON, a surrogate pair.
            let mut units = [0; 2];
            for unit in characters.next().unwrap_or_default().encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// An event of any type, as one JSON object.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct Event {
    /// The number of the event among those of its shim, from 1, before any filter. Absent in
    /// `hello` and in a gap of one subscriber.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// The type of the event.
    #[cfg_attr(test, schemars(extend("enum" = [&["hello"][..], &model::EVENT_TYPES].concat())))]
    r#type: String,
    /// The time of the kernel's event; RFC 3339, UTC.
    time: String,
    /// `CLOCK_MONOTONIC` at the kernel's event in nanoseconds, or when the event was noticed if the
    /// kernel has none.
    monotonic_ns: u64,
    /// How exact the event is: `exact`, `late`, `partial` or `snapshot`.
    #[serde(skip_serializing_if = "String::is_empty")]
    grade: String,
    /// Where the event comes from: `bpf`, `connector`, `poll` or `shim`.
    #[serde(skip_serializing_if = "String::is_empty")]
    source: String,
    /// Identifies one run of one shim. A cursor is the epoch, a colon and the `seq`.
    epoch: String,
    #[serde(flatten)]
    attribution: Attribution,
    /// The labels of the subscriber's filters that matched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<String>,
    /// `process.*`: how the process came into its container: `init`, `exec`, `descendant`,
    /// `injected`, `hook` or `unknown`. `exec.left`: `exec`.
    #[serde(skip_serializing_if = "String::is_empty")]
    origin: String,
    /// `process.*`: the process. `exec.left`: that of the exec. `container.start`: init, with its
    /// pid only.
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<Process>,
    /// `process.exit`: 0 to 255, or 128 + the signal. Absent if it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u32>,
    /// `process.done`: the time since the exit.
    #[serde(skip_serializing_if = "Option::is_none")]
    after_exit_ns: Option<u64>,
    /// `process.held`: the processes that hold the output; none if the parent has not waited for
    /// the process.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holders: Vec<Parent>,
    /// `process.held`: how many processes hold the output; `holders` names at most 32 of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    holders_count: Option<u32>,
    /// `process.exit`: the time from the fork of the process to its exit, in nanoseconds. Absent if
    /// the fork was not seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_time_ns: Option<u64>,
    /// `exec.left`: the living descendants of the exec that began first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    survivors: Vec<Parent>,
    /// `exec.left`: how many descendants are alive; `survivors` names at most 32 of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    survivors_count: Option<u32>,
    #[serde(flatten)]
    port: Option<Port>,
    /// `container.start`: the settings of the container that were ignored, at most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignored_settings: Vec<IgnoredSetting>,
    #[serde(flatten)]
    body: Option<OtherBody>,
}

/// A setting of a container that has no effect.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct IgnoredSetting {
    /// The key as it was written.
    key: String,
    /// Why it was ignored.
    reason: String,
}

impl From<&api::IgnoredSetting> for IgnoredSetting {
    fn from(setting: &api::IgnoredSetting) -> Self {
        Self { key: setting.key.clone(), reason: setting.reason.clone() }
    }
}

/// An object that has only an id, such as `container` or `process.user`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Id<T> {
    /// The id.
    id: T,
}

/// The fields of events that are about neither a process nor a port.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
enum OtherBody {
    /// `container.close`: the account of the container, `seen` = `delivered` + `lost`.
    Close {
        /// `container.close`: records that the source counted. `null` if it does not count.
        seen: Option<u64>,
        /// `container.close`: records that were reported as an event.
        delivered: u64,
        /// `container.close`: records that were lost, `null` if the source does not count.
        lost: Option<u64>,
        /// `container.close`: records that no event shows, above all those of the runtime's stages.
        runtime: u64,
    },
    /// `observer.gap`: a loss.
    Gap {
        /// `observer.gap`: how many records or events were lost; `null` if that is unknown.
        lost: Option<u64>,
        /// `observer.gap`: where: `kernel`, `source`, `observer`, `journal`, `subscriber` or
        /// `history`.
        stage: String,
        /// `observer.gap`: `CLOCK_MONOTONIC` before the loss, in nanoseconds.
        from: u64,
        /// `observer.gap`: `CLOCK_MONOTONIC` after the loss, in nanoseconds.
        to: u64,
    },
    /// `container.idle`: the container is quiet.
    Idle {
        /// `container.idle`: for how long the container has been quiet.
        quiet_ns: u64,
    },
    /// `container.active`: the container is no longer idle.
    Active {
        /// `container.active`: what ended the idle time: `exec`, `connection` or `input`.
        cause: String,
    },
    /// `observer.throttle`: what was left out of containerd's bus.
    Throttle {
        /// `observer.throttle`: how many events were left out.
        withheld: u64,
        /// `observer.throttle`: over how long.
        over_ns: u64,
    },
    /// `observer.capability`: a changed capability.
    Capability {
        /// `observer.capability`: the new state of the category.
        capability: Capability,
    },
    /// `hello`: the shim, and where its stream begins.
    Hello {
        /// `hello`: the version of the messages.
        schema_version: u32,
        /// `hello`: what can be observed of each category.
        capabilities: Vec<Capability>,
        /// `hello`: the `seq` before the first event of the stream.
        begins_after: u64,
        /// `hello`: the shim.
        shim: ShimId,
        /// `hello`: the containers that have events in the stream or may have some, and names in
        /// Kubernetes. Absent if there is none.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        containers: Vec<Attribution>,
    },
}

/// The shim that sends the stream.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ShimId {
    /// The id of the shim.
    id: String,
    /// The version of the shim.
    version: String,
}

/// How much of one category of events can be observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Capability {
    /// `lifecycle`, `file`, `network` or `process`.
    pub category: String,
    /// `supported`, `partial` or `unavailable`.
    pub support: String,
    /// The source of the events, such as `bpf`; `none` if the category is unavailable.
    pub backend: String,
    /// One line that says what is observed, and why no more than that.
    pub reason: String,
}

impl From<&model::Capability> for Capability {
    fn from(capability: &model::Capability) -> Self {
        let model::Capability { category, support, backend, reason } = capability;
        let (category, support) = (category.as_str().to_owned(), support.as_str().to_owned());
        Self { category, support, backend: backend.clone(), reason: reason.clone() }
    }
}

/// The exit of a process in the form of go-runc's `Exit`: timestamp, pid and status.
#[derive(Debug, Serialize)]
pub struct ExitObject {
    timestamp: String,
    pid: i32,
    status: u32,
    #[serde(flatten)]
    attribution: Attribution,
}

impl From<&api::Event> for Event {
    fn from(event: &api::Event) -> Self {
        let mut json = Self {
            seq: (event.seq > 0).then_some(event.seq),
            r#type: event.type_.clone(),
            time: rfc3339(event.time_ns),
            monotonic_ns: event.monotonic_ns,
            grade: event.grade.clone(),
            source: event.source.clone(),
            epoch: event.epoch.clone(),
            attribution: Attribution::of(event.container.as_ref(), ""),
            labels: event.labels.clone(),
            origin: String::new(),
            process: None,
            status: None,
            after_exit_ns: None,
            holders: Vec::new(),
            holders_count: None,
            run_time_ns: None,
            survivors: Vec::new(),
            survivors_count: None,
            port: None,
            ignored_settings: Vec::new(),
            body: None,
        };
        match &event.body {
            Some(Body::Process(process)) => {
                json.attribution = Attribution::of(event.container.as_ref(), &process.exec_id);
                json.origin = process.origin.clone();
                json.status = process.ended.as_ref().and_then(|ended| ended.status);
                json.after_exit_ns = process.after_exit_ns;
                json.holders = Parent::all_of(&process.holders, process);
                json.run_time_ns = process.run_time_ns;
                json.survivors = Parent::all_of(&process.survivors, process);
                json.survivors_count = process.survivors_count;
                json.holders_count = process.holders_count;
                json.process = Some(Process::of(process));
            }
            Some(Body::ContainerStart(start)) => {
                json.attribution = Attribution::with_annotations(event.container.get_or_default());
                json.process = Some(Process::of_pid(start.init_pid));
                json.ignored_settings =
                    start.ignored_settings.iter().map(IgnoredSetting::from).collect();
            }
            Some(Body::Port(port)) => json.port = Some(Port::from(port)),
            Some(body) => json.body = OtherBody::of(body),
            // A shim of a later version may send a type of event that this version does not know.
            // The fields that all events have are still useful.
            None => {}
        }
        json
    }
}

impl OtherBody {
    /// Converts the body of an event; `None` for a body that [`Event`] has separate fields for.
    fn of(body: &Body) -> Option<Self> {
        Some(match body {
            Body::ContainerClose(close) => {
                let &api::ContainerClose { seen, delivered, lost, runtime, .. } = close;
                Self::Close { seen, delivered, lost, runtime }
            }
            Body::Gap(gap) => {
                let &api::Gap { lost, from_ns: from, to_ns: to, .. } = gap;
                Self::Gap { lost, stage: gap.stage.clone(), from, to }
            }
            Body::Throttle(throttle) => {
                Self::Throttle { withheld: throttle.withheld, over_ns: throttle.over_ns }
            }
            Body::Capability(capability) => Self::Capability { capability: capability.into() },
            Body::Hello(hello) => Self::Hello {
                schema_version: hello.schema_version,
                capabilities: hello.capabilities.iter().map(Capability::from).collect(),
                begins_after: hello.seq,
                shim: ShimId { id: hello.shim_id.clone(), version: hello.version.clone() },
                containers: hello.containers.iter().map(Attribution::with_annotations).collect(),
            },
            Body::ContainerIdle(idle) => Self::Idle { quiet_ns: idle.quiet_ns },
            Body::ContainerActive(active) => Self::Active { cause: active.cause.clone() },
            Body::Process(_) | Body::ContainerStart(_) | Body::Port(_) => return None,
        })
    }
}

impl From<&api::Capability> for Capability {
    fn from(capability: &api::Capability) -> Self {
        let api::Capability { category, support, backend, reason, .. } = capability.clone();
        Self { category, support, backend, reason }
    }
}

impl ExitObject {
    /// The JSON form of an exit. `namespace` is the containerd namespace of the shim that sent the
    /// exit, because the message has no namespace.
    #[must_use]
    pub fn new(exit: &api::Exit, namespace: &str) -> Self {
        let container = api::Container {
            namespace: namespace.to_owned(),
            id: exit.container_id.clone(),
            ..Default::default()
        };
        let timestamp = rfc3339(exit.timestamp_ns);
        Self {
            timestamp,
            pid: exit.pid,
            status: exit.status,
            attribution: Attribution::of(Some(&container), &exit.exec_id),
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::lossless;

    proptest! {
        /// Check that a line never has a control character, a bidirectional override or invalid
        /// UTF-8, for any input.
        #[test]
        fn a_line_has_no_unsafe_characters(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            characters in "[\\PC\u{0}-\u{a0}\u{200b}-\u{206f}\u{e0000}-\u{e007f}]{0,32}",
        ) {
            for input in [&bytes[..], characters.as_bytes()] {
                prop_assert!(!to_line(&lossless(input)).contains(is_unsafe_to_print));
            }
        }

        /// Check that any text survives being written as JSON and parsed again.
        #[test]
        fn json_round_trips_every_text(text in any::<String>()) {
            prop_assert_eq!(serde_json::from_str::<String>(&to_line(&text)).unwrap(), text);
        }
    }
}
