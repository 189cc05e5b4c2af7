//! Sample events, processes, ports and capabilities for the fake shims.

use lookout::{
    api::{
        Capability, Container, ContainerClose, ContainerPort, ContainerProcess, ContainerStart,
        Ended, Event, Gap, Owner, Parent, Port, Process, event::Body,
    },
    model,
    observe::capability::{Capabilities, Probes},
};

pub(crate) const EPOCH: &str = "5f3a";
/// 2023-11-14T22:13:20Z.
pub(crate) const TIME_NS: u64 = 1_700_000_000_000_000_000;

pub(crate) fn container(id: &str) -> Container {
    Container { namespace: "default".into(), id: id.into(), ..Default::default() }
}

pub(crate) fn process(pid: i32, parent_pid: i32, args: &[&str]) -> Process {
    Process {
        pid,
        vpid: Some(pid - 4000),
        parent_pid,
        entity_id: format!("c0ffee00{pid:08x}1f"),
        created_ns: TIME_NS,
        origin: if parent_pid == 0 { "init" } else { "descendant" }.into(),
        executable: Some(args[0].into()),
        args: args.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        args_count: Some(u32::try_from(args.len()).expect("few")),
        working_directory: Some(b"/".into()),
        uid: Some(0),
        gid: Some(0),
        ..Default::default()
    }
}

pub(crate) fn event(seq: u64, id: &str, type_name: &str, body: Body) -> Event {
    Event {
        seq,
        epoch: EPOCH.into(),
        type_: type_name.into(),
        time_ns: TIME_NS + seq * 1_000_000,
        monotonic_ns: 1_000_000 * seq,
        grade: "exact".into(),
        source: "bpf".into(),
        container: Some(container(id)).into(),
        body: Some(body),
        ..Default::default()
    }
}

pub(crate) fn start(seq: u64, id: &str, process: Process) -> Event {
    event(seq, id, "process.start", Body::Process(process))
}

pub(crate) fn exit(seq: u64, id: &str, mut process: Process, code: u32) -> Event {
    process.ended =
        Some(Ended { code: Some(code), status: Some(code), ..Default::default() }).into();
    event(seq, id, "process.exit", Body::Process(process))
}

pub(crate) fn gap(seq: u64, id: &str, lost: Option<u64>) -> Event {
    let gap =
        Gap { lost, stage: "kernel".into(), from_ns: 1, to_ns: 3_000_001, ..Default::default() };
    event(seq, id, "observer.gap", Body::Gap(gap))
}

/// All events of a container, from start to close: a shell, an exec, and the final account.
pub(crate) fn life(id: &str) -> Vec<Event> {
    let shell = process(4016, 0, &["/bin/sh", "-c", "sleep 1 & exit 5"]);
    let mut exec = process(4211, 0, &["/bin/sleep", "1"]);
    exec.origin = "exec".into();
    exec.exec_id = "probe-1".into();
    exec.parent =
        Some(Parent { pid: 4016, executable: Some(b"/bin/sh".into()), ..Default::default() })
            .into();
    vec![
        event(
            1,
            id,
            "container.start",
            Body::ContainerStart(ContainerStart { init_pid: 4016, ..Default::default() }),
        ),
        start(2, id, shell.clone()),
        start(3, id, exec.clone()),
        exit(4, id, exec, 0),
        exit(5, id, shell, 5),
        event(
            6,
            id,
            "container.close",
            Body::ContainerClose(ContainerClose {
                seen: Some(4),
                delivered: 4,
                lost: Some(0),
                ..Default::default()
            }),
        ),
    ]
}

/// The live processes of a running container.
pub(crate) fn alive(id: &str) -> Vec<ContainerProcess> {
    let mut exec = process(4211, 1, &["/bin/sh"]);
    exec.origin = "exec".into();
    exec.exec_id = "probe-1".into();
    [
        process(4016, 0, &["/bin/sh", "-c", "work"]),
        process(4017, 4016, &["work", "\u{1b}[2Jit's"]),
        process(4018, 4016, &["sleep", "9"]),
        process(4019, 4017, &["sleep", "1"]),
        exec,
    ]
    .into_iter()
    .map(|process| ContainerProcess {
        container: Some(container(id)).into(),
        process: Some(process).into(),
        ..Default::default()
    })
    .collect()
}

pub(crate) fn port(address: &str, number: u32, scope: &str, owners: &[(i32, &str)]) -> Port {
    let owner = |(pid, path): &(i32, &str)| Owner {
        pid: *pid,
        vpid: Some(pid - 4000),
        entity_id: format!("c0ffee00{pid:08x}1f"),
        executable: Some(path.as_bytes().into()),
        container_id: "web".into(),
        ..Default::default()
    };
    Port {
        transport: "tcp".into(),
        type_: if address.contains(':') { "ipv6".into() } else { "ipv4".into() },
        address: address.into(),
        port: number,
        scope: scope.into(),
        dual_stack: address == "::",
        network_namespace: Some(4_026_531_840),
        owners: owners.iter().map(owner).collect(),
        ..Default::default()
    }
}

/// The open ports of a running container.
pub(crate) fn open_ports(id: &str) -> Vec<ContainerPort> {
    let both = [(4018, "/usr/sbin/nginx"), (4019, "/usr/sbin/nginx")];
    [
        port("127.0.0.1", 8080, "loopback", &[(4017, "/bin/\u{1b}[2Jwork")]),
        port("::", 80, "wildcard", &both),
    ]
    .into_iter()
    .map(|port| ContainerPort {
        container: Some(container(id)).into(),
        port: Some(port).into(),
        ..Default::default()
    })
    .collect()
}

/// The events of a port that opens and closes.
pub(crate) fn port_life(id: &str) -> Vec<Event> {
    let port = || Body::Port(port("127.0.0.1", 9000, "loopback", &[(4018, "/usr/sbin/nginx")]));
    vec![event(1, id, "port.open", port()), event(2, id, "port.close", port())]
}

/// The capabilities of a node on which every source works, as the program itself derives them.
pub(crate) fn capabilities() -> Vec<Capability> {
    let probes = Probes { bpf: Ok(()), udp: true, connector: Ok(()), proc: Ok(()) };
    let message = |capability: &model::Capability| Capability {
        category: capability.category.as_str().into(),
        support: capability.support.as_str().into(),
        backend: capability.backend.clone(),
        reason: capability.reason.clone(),
        ..Default::default()
    };
    Capabilities::from_probes(&probes).categories().iter().map(message).collect()
}
