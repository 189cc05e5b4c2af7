//! Events as messages. The one place that knows both.
//!
//! Nothing here asks a message for its descriptor, which would stay in memory with that of every other.

use std::sync::Arc;

use containerd_shim_protos::protobuf::MessageField;

use crate::{
    api::{self, event::Body as Message},
    model::{
        Args, Body, Capability, Container, Counts, Ended, Event, Gap, Image, Owner, Parent, Port, Process, ProcessKey,
        TICKS_PER_SECOND,
    },
    observe::hub::Identity,
};

/// When processes began, as people tell time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// `CLOCK_REALTIME` when the machine started: now less `CLOCK_BOOTTIME`, in nanoseconds since 1970.
    pub boot_realtime_ns: u64,
}

impl Clock {
    /// When a process began, in nanoseconds since 1970, to a clock tick; 0 where it is not known.
    #[must_use]
    pub fn created_ns(self, key: ProcessKey) -> u64 {
        const TICK_NS: u64 = 1_000_000_000 / TICKS_PER_SECOND;
        if key.start_ticks == 0 {
            return 0;
        }
        self.boot_realtime_ns.saturating_add(key.start_ticks.saturating_mul(TICK_NS))
    }
}

/// Makes the messages of one shim.
#[derive(Debug, Clone, Copy)]
pub struct Encoder<'a> {
    identity: &'a Identity,
    clock: Clock,
}

impl<'a> Encoder<'a> {
    /// For the shim that `identity` names.
    #[must_use]
    pub fn new(identity: &'a Identity, clock: Clock) -> Self {
        Self { identity, clock }
    }

    /// An event, without labels.
    #[must_use]
    pub fn event(&self, event: &Event) -> api::Event {
        let container = event.container.as_deref();
        let body = match &event.body {
            Body::Fork(process) | Body::Exec(process) | Body::Start(process) | Body::OomKill(process) => {
                Message::Process(self.process(process, container, usize::MAX))
            }
            Body::Exit { process, ended: how, oom_killed } => {
                let mut process = self.process(process, container, usize::MAX);
                process.ended = MessageField::some(ended(*how, *oom_killed));
                Message::Process(process)
            }
            Body::Done { process, after_exit_ns } => {
                let mut process = self.process(process, container, usize::MAX);
                process.after_exit_ns = Some(*after_exit_ns);
                Message::Process(process)
            }
            Body::Held { process, holders } => {
                let mut process = self.process(process, container, usize::MAX);
                process.holders = holders.iter().map(|holder| self.parent(holder)).collect();
                Message::Process(process)
            }
            Body::ContainerStart { init } => {
                Message::ContainerStart(api::ContainerStart { init_pid: init.pid, ..Default::default() })
            }
            Body::ContainerClose(counts) => Message::ContainerClose(close(*counts)),
            Body::Gap(hole) => Message::Gap(gap(hole)),
            Body::Throttle { withheld, over_ns } => {
                Message::Throttle(api::Throttle { withheld: *withheld, over_ns: *over_ns, ..Default::default() })
            }
            Body::Capability(changed) => Message::Capability(capability(changed)),
            Body::ContainerIdle { quiet_ns } => {
                Message::ContainerIdle(api::ContainerIdle { quiet_ns: *quiet_ns, ..Default::default() })
            }
            Body::ContainerActive { cause } => {
                Message::ContainerActive(api::ContainerActive { cause: text(cause.as_str()), ..Default::default() })
            }
            Body::PortOpen(port) | Body::PortClose(port) => Message::Port(self.port(port)),
        };
        api::Event {
            seq: event.seq,
            epoch: self.identity.epoch.clone(),
            type_: text(event.body.type_name()),
            time_ns: event.realtime_ns,
            monotonic_ns: event.monotonic_ns,
            grade: text(event.grade.as_str()),
            source: text(event.source.as_str()),
            container: container.map(self::container).into(),
            body: Some(body),
            ..Default::default()
        }
    }

    /// A hole that is one subscriber's only; `now_ns` is `CLOCK_REALTIME`.
    #[must_use]
    pub fn own_gap(&self, hole: &Gap, now_ns: u64) -> api::Event {
        api::Event {
            monotonic_ns: hole.to_ns,
            grade: text("exact"),
            ..self.own("observer.gap", Message::Gap(gap(hole)), now_ns)
        }
    }

    /// The first record of a stream; `now_ns` is `CLOCK_REALTIME`.
    #[must_use]
    pub fn hello(&self, schema_version: u32, capabilities: &[Capability], seq: u64, now_ns: u64) -> api::Event {
        let hello = api::Hello {
            schema_version,
            capabilities: capabilities.iter().map(capability).collect(),
            seq,
            shim_id: self.identity.shim_id.clone(),
            version: text(env!("CARGO_PKG_VERSION")),
            ..Default::default()
        };
        self.own("hello", Message::Hello(hello), now_ns)
    }

    /// The answer to Processes, each process's arguments cut to about `args_max` bytes.
    #[must_use]
    pub fn processes(
        &self,
        living: &[(Arc<Container>, Arc<Process>)],
        seq: u64,
        args_max: usize,
    ) -> api::ProcessesResponse {
        let one = |(container, process): &(Arc<Container>, Arc<Process>)| api::ContainerProcess {
            container: MessageField::some(self::container(container)),
            process: MessageField::some(self.process(process, Some(container), args_max)),
            ..Default::default()
        };
        let processes = living.iter().map(one).collect();
        api::ProcessesResponse { processes, epoch: self.identity.epoch.clone(), seq, ..Default::default() }
    }

    /// The answer to Ports.
    #[must_use]
    pub fn ports(&self, open: &[(Arc<Container>, Port)], seq: u64) -> api::PortsResponse {
        let one = |(container, port): &(Arc<Container>, Port)| api::ContainerPort {
            container: MessageField::some(self::container(container)),
            port: MessageField::some(self.port(port)),
            ..Default::default()
        };
        let ports = open.iter().map(one).collect();
        api::PortsResponse { ports, epoch: self.identity.epoch.clone(), seq, ..Default::default() }
    }

    fn port(&self, port: &Port) -> api::Port {
        let endpoint = &port.endpoint;
        api::Port {
            transport: text(endpoint.transport.as_str()),
            type_: text(endpoint.network_type()),
            address: endpoint.address.to_string(),
            port: endpoint.port.into(),
            scope: text(endpoint.scope().as_str()),
            dual_stack: endpoint.dual_stack,
            owners: port.owners.iter().map(|owner| self.owner(owner)).collect(),
            ..Default::default()
        }
    }

    fn owner(&self, owner: &Owner) -> api::Owner {
        let Owner { key, vpid, image, exec_id, container_id } = owner;
        api::Owner {
            pid: key.pid,
            vpid: *vpid,
            entity_id: self.entity_id(*key),
            executable: image.as_ref().and_then(|image| image.executable.as_deref()).map(<[u8]>::to_vec),
            exec_id: exec_id.as_deref().map(text).unwrap_or_default(),
            container_id: container_id.as_deref().map(text).unwrap_or_default(),
            ..Default::default()
        }
    }

    fn process(&self, process: &Process, container: Option<&Container>, args_max: usize) -> api::Process {
        let Process { key, vpid, parent_pid, parent, image, origin, exec_id, cgroup } = process;
        let Image { executable, args, working_directory, comm, uid, gid, unknown } = &**image;
        let cgroup = cgroup.as_deref().or(container.map(|container| container.cgroup.as_str()));
        let mut message = api::Process {
            pid: key.pid,
            vpid: *vpid,
            parent_pid: *parent_pid,
            entity_id: self.entity_id(*key),
            created_ns: self.clock.created_ns(*key),
            origin: text(origin.as_str()),
            exec_id: exec_id.as_deref().map(text).unwrap_or_default(),
            executable: executable.as_deref().map(<[u8]>::to_vec),
            working_directory: working_directory.as_deref().map(<[u8]>::to_vec),
            uid: *uid,
            gid: *gid,
            cgroup: cgroup.map(text).unwrap_or_default(),
            unknown: unknown.map(|why| text(why.as_str())).unwrap_or_default(),
            parent: parent.as_ref().map(|parent| self.parent(parent)).into(),
            comm: comm.as_deref().map(<[u8]>::to_vec),
            ..Default::default()
        };
        if let Some(args) = args {
            fill_args(&mut message, args, args_max);
        }
        message
    }

    fn parent(&self, parent: &Parent) -> api::Parent {
        api::Parent {
            pid: parent.key.pid,
            entity_id: self.entity_id(parent.key),
            executable: parent.image.executable.as_deref().map(<[u8]>::to_vec),
            ..Default::default()
        }
    }

    /// Empty where the start is not known: it would name any process with that pid.
    fn entity_id(&self, key: ProcessKey) -> String {
        if key.start_ticks == 0 { String::new() } else { key.entity_id(self.identity.boot) }
    }

    fn own(&self, name: &str, body: Message, now_ns: u64) -> api::Event {
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

fn fill_args(message: &mut api::Process, args: &Args, bytes_max: usize) {
    let mut bytes = 0;
    let fits = |arg: &&[u8]| {
        // Beside its own bytes an argument costs two.
        bytes += arg.len() + 2;
        bytes <= bytes_max
    };
    message.args = args.iter().take_while(fits).map(<[u8]>::to_vec).collect();
    message.args_count = Some(args.count);
    message.args_bytes = Some(args.total_bytes);
    message.args_truncated = args.truncated() || bytes > bytes_max;
    message.args_redacted = args.redacted;
}

fn container(container: &Container) -> api::Container {
    let k8s = container.kubernetes.as_ref().map(|names| api::Kubernetes {
        namespace: names.namespace.clone(),
        pod_name: names.pod_name.clone(),
        pod_uid: names.pod_uid.clone(),
        container_name: names.container_name.clone(),
        ..Default::default()
    });
    let (namespace, id) = (container.namespace.clone(), container.id.clone());
    api::Container { namespace, id, k8s: k8s.into(), ..Default::default() }
}

fn ended(how: Option<Ended>, oom_killed: bool) -> api::Ended {
    api::Ended {
        code: how.and_then(Ended::code).map(u32::from),
        signal: how.and_then(Ended::signal_name).unwrap_or_default(),
        status: how.map(Ended::status),
        oom_killed,
        ..Default::default()
    }
}

fn close(counts: Counts) -> api::ContainerClose {
    let Counts { seen, delivered, lost, runtime } = counts;
    api::ContainerClose { seen, delivered, lost, runtime, ..Default::default() }
}

fn gap(hole: &Gap) -> api::Gap {
    let Gap { lost, stage, from_ns, to_ns } = *hole;
    api::Gap { lost, stage: text(stage.as_str()), from_ns, to_ns, ..Default::default() }
}

/// A category's answer.
pub(in crate::observe) fn capability(capability: &Capability) -> api::Capability {
    api::Capability {
        category: text(capability.category.as_str()),
        support: text(capability.support.as_str()),
        backend: capability.backend.clone(),
        reason: capability.reason.clone(),
        ..Default::default()
    }
}

/// A word as messages have it.
pub(super) fn text(word: &str) -> String {
    word.to_owned()
}
