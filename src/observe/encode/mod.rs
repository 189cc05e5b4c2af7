//! Encodes events as protobuf messages. No other module knows both the model and the messages.
//!
//! An event is encoded once, when it gets its sequence number; subscribers copy the bytes. Events
//! and processes are written directly as bytes (see [`wire`](crate::wire)); rare messages use the
//! generated types. Nothing here asks a message for its descriptor: the first use would load the
//! descriptors of all messages, and they would stay in memory.

mod encoded;

use std::sync::Arc;

use containerd_shim_protos::protobuf;

use crate::{
    api::{
        self,
        event::Body as Message,
        field_numbers::{
            annotation, container, container_active, container_idle, container_start, ended, event,
            event_batch, ignored_setting, kubernetes, owner, parent, port, process, throttle,
        },
    },
    clock::realtime_ns,
    model::{
        Annotation, Args, Body, Capability, Container, Description, Ended, Event, Gap,
        IgnoredSetting, Image, Owner, Parent, Port, Process, ProcessKey, RecordCounts,
        TICKS_PER_SECOND,
    },
    platform::boottime_ns,
    wire::Writer,
};

pub use encoded::Encoded;

/// The identity of one run of a shim, which its messages carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The id of the shim: the id of its first container or of its pod.
    pub shim_id: String,
    /// The epoch, which differs between two runs of a shim with the same id. It has no colon, which
    /// separates it from the sequence number in a cursor.
    pub epoch: String,
    /// The first 32 bits of the kernel's boot id, for [`ProcessKey::entity_id`].
    pub boot: u32,
}

/// Converts the start times of processes to wall-clock time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// When the machine booted: `CLOCK_REALTIME` less `CLOCK_BOOTTIME`, in nanoseconds since 1970.
    pub boot_realtime_ns: u64,
}

impl Clock {
    /// Reads both clocks. Later steps of `CLOCK_REALTIME` do not change the value, so the start
    /// time of a process stays the same for the life of the shim.
    #[must_use]
    pub fn now() -> Self {
        Self { boot_realtime_ns: realtime_ns().saturating_sub(boottime_ns()) }
    }

    /// The start time of a process in nanoseconds since 1970, rounded down to a clock tick; 0 if
    /// the start time is unknown.
    #[must_use]
    pub fn created_ns(self, key: ProcessKey) -> u64 {
        const TICK_NS: u64 = 1_000_000_000 / TICKS_PER_SECOND;
        key.start.map_or(0, |start| {
            self.boot_realtime_ns.saturating_add(start.get().saturating_mul(TICK_NS))
        })
    }
}

/// The encoded fields that all events of a container share: its epoch, its namespace and its id.
/// Consecutive events mostly belong to one container, so the last container's fields are kept.
#[derive(Debug, Default)]
pub(super) struct ContainerFields {
    container: Option<Arc<Container>>,
    bytes: Vec<u8>,
}

impl ContainerFields {
    fn fields_of(&mut self, encoder: &Encoder<'_>, container: &Arc<Container>) -> &[u8] {
        // Comparing pointers is enough: all events of a container share one allocation.
        if self.container.as_ref().is_none_or(|known| !Arc::ptr_eq(known, container)) {
            self.bytes.clear();
            let mut writer = Writer::new(&mut self.bytes);
            writer.bytes(event::EPOCH, encoder.epoch());
            writer.message(event::CONTAINER, |writer| write_container_id(container, writer));
            self.container = Some(container.clone());
        }
        &self.bytes
    }
}

/// Encodes the messages of one shim.
#[derive(Debug, Clone, Copy)]
pub struct Encoder<'a> {
    identity: &'a Identity,
    clock: Clock,
}

impl<'a> Encoder<'a> {
    /// An encoder for the shim with this identity.
    #[must_use]
    pub fn new(identity: &'a Identity, clock: Clock) -> Self {
        Self { identity, clock }
    }

    /// Appends an event to a batch. The caller passes the same `head` for each event of a batch.
    pub(super) fn event(
        &self,
        seq: u64,
        event: &Event,
        head: &mut ContainerFields,
        batch: &mut Vec<u8>,
    ) {
        let container = event.container.as_deref();
        Writer::new(batch).message(event_batch::EVENTS, |writer| {
            writer.number(event::SEQ, seq);
            match &event.container {
                Some(container) if matches!(event.body, Body::ContainerStart { .. }) => {
                    writer.bytes(event::EPOCH, self.epoch());
                    writer.message(event::CONTAINER, |writer| write_container(container, writer));
                }
                Some(container) => writer.fields(head.fields_of(self, container)),
                None => writer.bytes(event::EPOCH, self.epoch()),
            }
            writer.bytes(event::TYPE, event.body.type_name());
            writer.number(event::TIME_NS, event.realtime_ns);
            writer.number(event::MONOTONIC_NS, event.monotonic_ns);
            writer.bytes(event::GRADE, event.grade.as_str());
            writer.bytes(event::SOURCE, event.source.as_str());
            match &event.body {
                Body::Fork(process)
                | Body::Exec(process)
                | Body::Start(process)
                | Body::OomKill(process)
                | Body::Exit { process, .. }
                | Body::Done { process, .. }
                | Body::Held { process, .. }
                | Body::ExecLeft { process, .. } => writer.message(event::PROCESS, |writer| {
                    self.write_process(process, container, writer);
                    self.write_end(&event.body, writer);
                }),
                Body::ContainerStart { init } => writer.message(event::CONTAINER_START, |writer| {
                    writer.signed(container_start::INIT_PID, init.pid);
                    let ignored = container.map(|container| &*container.ignored_settings);
                    for IgnoredSetting { key, reason } in ignored.unwrap_or_default() {
                        writer.message(container_start::IGNORED_SETTINGS, |writer| {
                            writer.bytes(ignored_setting::KEY, key);
                            writer.bytes(ignored_setting::REASON, reason);
                        });
                    }
                }),
                Body::ContainerClose(counts) => {
                    writer.optional_bytes(event::CONTAINER_CLOSE, to_bytes(&close(*counts)))
                }
                Body::Gap(lost) => writer.optional_bytes(event::GAP, to_bytes(&gap(lost))),
                Body::Throttle { withheld, over_ns } => writer.message(event::THROTTLE, |writer| {
                    writer.number(throttle::WITHHELD, *withheld);
                    writer.number(throttle::OVER_NS, *over_ns);
                }),
                Body::Capability(changed) => {
                    writer.optional_bytes(event::CAPABILITY, to_bytes(&capability(changed)))
                }
                Body::PortOpen(port) | Body::PortClose(port) => {
                    writer.message(event::PORT, |writer| self.write_port(port, writer))
                }
                Body::ContainerIdle { quiet_ns } => writer
                    .message(event::CONTAINER_IDLE, |writer| {
                        writer.number(container_idle::QUIET_NS, *quiet_ns)
                    }),
                Body::ContainerActive { cause } => writer
                    .message(event::CONTAINER_ACTIVE, |writer| {
                        writer.bytes(container_active::CAUSE, cause.as_str())
                    }),
            }
        });
    }

    /// A gap of one subscriber alone. It has no sequence number. `now_ns` is `CLOCK_REALTIME` in
    /// nanoseconds.
    #[must_use]
    pub fn subscriber_gap(&self, lost: &Gap, now_ns: u64) -> api::Event {
        api::Event {
            monotonic_ns: lost.to_ns,
            grade: text("exact"),
            ..self.shim_event("observer.gap", Message::Gap(gap(lost)), now_ns)
        }
    }

    /// The first event of a stream. `seq` is the sequence number before the subscription's first
    /// event, `containers` has the constants that the events leave out, and `now_ns` is
    /// `CLOCK_REALTIME` in nanoseconds.
    #[must_use]
    pub fn hello(
        &self,
        schema_version: u32,
        capabilities: &[Capability],
        seq: u64,
        containers: &[Arc<Container>],
        now_ns: u64,
    ) -> api::Event {
        let hello = api::Hello {
            schema_version,
            capabilities: capabilities.iter().map(capability).collect(),
            seq,
            shim_id: self.identity.shim_id.clone(),
            version: text(env!("CARGO_PKG_VERSION")),
            containers: containers.iter().map(|container| container_message(container)).collect(),
            ..Default::default()
        };
        self.shim_event("hello", Message::Hello(hello), now_ns)
    }

    /// The epoch of the shim.
    pub(super) fn epoch(self) -> &'a str {
        &self.identity.epoch
    }

    /// Writes the fields of an `api::Port`.
    pub(super) fn write_port(&self, port: &Port, writer: &mut Writer<'_>) {
        // Patterns without `..`: a new field does not compile until it is encoded.
        let Port { endpoint, network_namespace, owners } = port;
        writer.bytes(port::TRANSPORT, endpoint.transport.as_str());
        writer.bytes(port::TYPE, endpoint.network_type());
        writer.bytes(port::ADDRESS, endpoint.address.to_string());
        writer.number(port::PORT, endpoint.port.into());
        writer.bytes(port::SCOPE, endpoint.scope().as_str());
        writer.flag(port::DUAL_STACK, endpoint.dual_stack);
        for owner in &owners.named {
            writer.message(port::OWNERS, |writer| self.write_owner(owner, writer));
        }
        writer.optional_number(port::NETWORK_NAMESPACE, Some(network_namespace.inode.into()));
        writer.optional_number(port::OWNERS_COUNT, Some(owners.count.into()));
    }

    fn write_owner(&self, owner: &Owner, writer: &mut Writer<'_>) {
        let Owner { key, vpid, image, exec_id, container_id } = owner;
        writer.signed(owner::PID, key.pid);
        writer.optional_signed(owner::VPID, *vpid);
        self.write_entity_id(owner::ENTITY_ID, *key, writer);
        writer.optional_bytes(
            owner::EXECUTABLE,
            image.as_ref().and_then(|image| image.executable.as_deref()),
        );
        writer.bytes(owner::EXEC_ID, exec_id.as_deref().unwrap_or_default());
        writer.bytes(owner::CONTAINER_ID, container_id.as_deref().unwrap_or_default());
    }

    /// Writes the fields of an `api::Process`, without the fields that only events of its end have.
    pub(super) fn write_process(
        &self,
        process: &Process,
        container: Option<&Container>,
        writer: &mut Writer<'_>,
    ) {
        // Patterns without `..`: a new field does not compile until it is encoded.
        let Process { key, vpid, parent_pid, parent, image, origin, exec_id, cgroup } = process;
        let Image {
            executable,
            executable_deleted,
            args,
            working_directory,
            comm,
            uid,
            gid,
            unknown,
            // Shows an exec to the tracker, and is of no use to a client.
            stack: _,
            charge: _,
        } = &**image;
        // A process records its cgroup only if it is not the container's own.
        let cgroup = cgroup.as_deref().or(container.map(|container| container.cgroup.as_str()));
        writer.signed(process::PID, key.pid);
        writer.optional_signed(process::VPID, *vpid);
        writer.signed(process::PARENT_PID, parent_pid.unwrap_or_default());
        self.write_entity_id(process::ENTITY_ID, *key, writer);
        writer.number(process::CREATED_NS, self.clock.created_ns(*key));
        writer.bytes(process::ORIGIN, origin.as_str());
        writer.bytes(process::EXEC_ID, exec_id.as_deref().unwrap_or_default());
        writer.optional_bytes(process::EXECUTABLE, executable.as_deref());
        if let Some(args) = args {
            write_args(args, writer);
        }
        writer.optional_bytes(process::WORKING_DIRECTORY, working_directory.as_deref());
        writer.optional_number(process::UID, uid.map(u64::from));
        writer.optional_number(process::GID, gid.map(u64::from));
        writer.bytes(process::CGROUP, cgroup.unwrap_or_default());
        writer.bytes(process::UNKNOWN, unknown.map(|why| why.as_str()).unwrap_or_default());
        if let Some(parent) = parent {
            writer.message(process::PARENT, |writer| self.write_parent(parent, writer));
        }
        writer.optional_bytes(process::COMM, comm.as_deref());
        writer.number(process::EXECUTABLE_DELETED, u64::from(*executable_deleted));
    }

    /// Writes the process fields that only one type of event has.
    fn write_end(&self, body: &Body, writer: &mut Writer<'_>) {
        match body {
            Body::Exit { ended: how, oom_killed, run_time_ns, .. } => {
                writer.message(process::ENDED, |writer| {
                    let signal = how.and_then(Ended::signal_name).unwrap_or_default();
                    writer.optional_number(ended::CODE, how.and_then(Ended::code).map(u64::from));
                    writer.bytes(ended::SIGNAL, signal);
                    writer.optional_number(ended::STATUS, how.map(|how| how.status().into()));
                    writer.flag(ended::OOM_KILLED, *oom_killed);
                });
                writer.optional_number(process::RUN_TIME_NS, *run_time_ns);
            }
            Body::Done { after_exit_ns, .. } => {
                writer.optional_number(process::AFTER_EXIT_NS, Some(*after_exit_ns))
            }
            Body::Held { holders, holders_count, .. } => {
                for holder in holders {
                    writer.message(process::HOLDERS, |writer| self.write_parent(holder, writer));
                }
                writer.optional_number(process::HOLDERS_COUNT, Some((*holders_count).into()));
            }
            Body::ExecLeft { survivors, survivors_count, .. } => {
                for survivor in survivors {
                    writer.message(process::SURVIVORS, |writer| {
                        self.write_parent(survivor, writer);
                    });
                }
                writer.optional_number(process::SURVIVORS_COUNT, Some((*survivors_count).into()));
            }
            _ => {}
        }
    }

    fn write_parent(&self, parent: &Parent, writer: &mut Writer<'_>) {
        writer.signed(parent::PID, parent.key.pid);
        self.write_entity_id(parent::ENTITY_ID, parent.key, writer);
        writer.optional_bytes(parent::EXECUTABLE, parent.image.executable.as_deref());
    }

    /// Writes the entity id of a process, or nothing if its start time is unknown, because the id
    /// would then match every process that has had this pid.
    fn write_entity_id(&self, field: u32, key: ProcessKey, writer: &mut Writer<'_>) {
        if key.start.is_some() {
            writer.bytes(field, key.entity_id(self.identity.boot).as_bytes());
        }
    }

    /// An event of the shim, which is about no container and has no sequence number.
    fn shim_event(&self, name: &str, body: Message, now_ns: u64) -> api::Event {
        api::Event {
            epoch: self.identity.epoch.clone(),
            type_: text(name),
            time_ns: now_ns,
            source: text("shim"),
            body: Some(body),
            ..Default::default()
        }
    }
}

fn write_args(args: &Args, writer: &mut Writer<'_>) {
    for arg in args.iter() {
        writer.optional_bytes(process::ARGS, Some(arg));
    }
    writer.optional_number(process::ARGS_COUNT, Some(args.count.into()));
    writer.optional_number(process::ARGS_BYTES, Some(args.total_bytes));
    writer.flag(process::ARGS_TRUNCATED, args.truncated());
    writer.flag(process::ARGS_REDACTED, args.redacted);
}

/// Writes the fields of an `api::Container` by which events name it.
fn write_container_id(container: &Container, writer: &mut Writer<'_>) {
    writer.bytes(container::NAMESPACE, &container.namespace);
    writer.bytes(container::ID, &container.id);
}

/// Writes all fields of an `api::Container`.
pub(super) fn write_container(container: &Container, writer: &mut Writer<'_>) {
    write_container_id(container, writer);
    let Description { kubernetes, name, image, annotations } = &container.description;
    if let Some(names) = kubernetes {
        writer.message(container::K8S, |writer| {
            writer.bytes(kubernetes::NAMESPACE, &names.namespace);
            writer.bytes(kubernetes::POD_NAME, &names.pod_name);
            writer.bytes(kubernetes::POD_UID, &names.pod_uid);
            writer.bytes(kubernetes::CONTAINER_NAME, &names.container_name);
        });
    }
    writer.bytes(container::NAME, name);
    writer.bytes(container::IMAGE, image);
    for Annotation { key, value } in annotations {
        writer.message(container::ANNOTATIONS, |writer| {
            writer.bytes(annotation::KEY, key);
            writer.bytes(annotation::VALUE, value);
        });
    }
}

/// Appends a container to an encoded batch.
pub(super) fn write_batch_container(container: &Container, batch: &mut Vec<u8>) {
    let mut writer = Writer::new(batch);
    writer.message(event_batch::CONTAINERS, |writer| write_container(container, writer));
}

fn container_message(container: &Container) -> api::Container {
    let Description { kubernetes, name, image, annotations } = &container.description;
    let k8s = kubernetes.as_ref().map(|names| api::Kubernetes {
        namespace: names.namespace.clone(),
        pod_name: names.pod_name.clone(),
        pod_uid: names.pod_uid.clone(),
        container_name: names.container_name.clone(),
        ..Default::default()
    });
    let annotations = annotations.iter().map(|one| api::Annotation {
        key: one.key.clone(),
        value: one.value.clone(),
        ..Default::default()
    });
    api::Container {
        namespace: container.namespace.clone(),
        id: container.id.clone(),
        k8s: k8s.into(),
        name: name.clone(),
        image: image.clone(),
        annotations: annotations.collect(),
        ..Default::default()
    }
}

/// Encodes a rare message. Encoding fails only for messages beyond 2 GiB, which these never are.
fn to_bytes(message: &impl protobuf::Message) -> Option<Vec<u8>> {
    message.write_to_bytes().ok()
}

fn close(counts: RecordCounts) -> api::ContainerClose {
    let RecordCounts { seen, delivered, lost, runtime } = counts;
    api::ContainerClose { seen, delivered, lost, runtime, ..Default::default() }
}

fn gap(lost: &Gap) -> api::Gap {
    let Gap { lost, stage, from_ns, to_ns } = *lost;
    api::Gap { lost, stage: text(stage.as_str()), from_ns, to_ns, ..Default::default() }
}

/// Converts an exit event to the fields of go-runc's `Exit`; `None` for any other event. An unknown
/// status becomes 255, which is containerd's status for it.
#[must_use]
pub fn exit(event: &api::Event) -> Option<api::Exit> {
    const UNKNOWN_STATUS: u32 = 255;
    let Some(Message::Process(process)) = &event.body else { return None };
    Some(api::Exit {
        timestamp_ns: event.time_ns,
        pid: process.pid,
        status: process.ended.as_ref().and_then(|ended| ended.status).unwrap_or(UNKNOWN_STATUS),
        container_id: event.container.get_or_default().id.clone(),
        exec_id: process.exec_id.clone(),
        ..Default::default()
    })
}

/// Converts a category's capability to its message.
pub(in crate::observe) fn capability(capability: &Capability) -> api::Capability {
    api::Capability {
        category: text(capability.category.as_str()),
        support: text(capability.support.as_str()),
        backend: capability.backend.clone(),
        reason: capability.reason.clone(),
        ..Default::default()
    }
}

/// An owned copy, as the generated messages need it.
pub(super) fn text(word: &str) -> String {
    word.to_owned()
}

#[cfg(test)]
mod tests;
