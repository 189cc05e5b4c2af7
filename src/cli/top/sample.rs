//! States for the tests.

use std::collections::HashMap;

use super::{
    data::Change,
    keyboard::Key,
    state::{Effect, Message, State},
    usage::Sample,
};
use crate::{
    api::{
        Container, ContainerPort, ContainerProcess, Ended, Event, Kubernetes, Owner, Port,
        PortsResponse, Process, ProcessesResponse, event::Body,
    },
    cli::{args::registry::SortOrder, clock::Clock, output::Style, select::Scope},
    model::ProcessKey,
    platform::process::Consumption,
};

/// 2023-11-14T22:13:20Z.
pub(super) const TIME_NS: u64 = 1_700_000_000_000_000_000;
/// An id as Kubernetes and Docker make them.
pub(super) const ID: &str = "5f3a9c5f3a9c5f3a9c5f3a9c5f3a9c5f3a9c5f3a9c5f3a9c5f3a9c5f3a9c5f3a";

/// A state that shows all containers, on a terminal of this size.
pub(super) fn state(width: u16, height: u16) -> State {
    let style = Style { clock: Clock::Utc, has_short_ids: true, ..Style::default() };
    let mut state = State::new("", SortOrder::Pid, style, TIME_NS);
    state.update(Message::Resized { width, height });
    state.set_scope(Scope::default());
    state
}

pub(super) fn entity_id(pid: i32, start_ticks: u64) -> String {
    ProcessKey::new(pid, start_ticks).entity_id(0xc0ff_ee00).to_string()
}

pub(super) fn process(pid: i32, parent_pid: i32, args: &[&str]) -> Process {
    Process {
        pid,
        parent_pid,
        entity_id: entity_id(pid, 31),
        created_ns: TIME_NS - 90_000_000_000,
        origin: if parent_pid == 0 { "init" } else { "descendant" }.into(),
        executable: args.first().map(|path| path.as_bytes().to_vec()),
        args: args.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        uid: Some(1000),
        gid: Some(1000),
        ..Process::default()
    }
}

pub(super) fn container(id: &str) -> Container {
    Container { namespace: "default".into(), id: id.into(), ..Container::default() }
}

/// A list of the processes of one container, which is all that a shim has.
pub(super) fn listed(shim: &str, container: &Container, processes: &[Process]) -> Change {
    let row = |process: &Process| ContainerProcess {
        container: Some(container.clone()).into(),
        process: Some(process.clone()).into(),
        ..ContainerProcess::default()
    };
    let port = |number, owner: &Process| ContainerPort {
        container: Some(container.clone()).into(),
        port: Some(Port {
            transport: "tcp".into(),
            type_: "ipv4".into(),
            address: "127.0.0.1".into(),
            port: number,
            scope: "loopback".into(),
            owners: vec![Owner {
                pid: owner.pid,
                entity_id: owner.entity_id.clone(),
                ..Owner::default()
            }],
            ..Port::default()
        })
        .into(),
        ..ContainerPort::default()
    };
    let ports = processes.first().map(|first| vec![port(8080, first), port(80, first)]);
    Change::Listed {
        shim: shim.into(),
        processes: Box::new(ProcessesResponse {
            processes: processes.iter().map(row).collect(),
            ..ProcessesResponse::default()
        }),
        ports: Some(Box::new(PortsResponse {
            ports: ports.unwrap_or_default(),
            ..PortsResponse::default()
        })),
        names: vec![container.clone()],
    }
}

/// An event of a process of the container of [`tree`].
pub(super) fn event(seq: u64, type_name: &str, process: &Process) -> Change {
    let mut process = process.clone();
    if type_name == "process.exit" {
        let ended = Ended { code: Some(3), status: Some(3), ..Ended::default() };
        process.ended = Some(ended).into();
    }
    let event = Event {
        seq,
        type_: type_name.into(),
        time_ns: TIME_NS,
        container: Some(container("web")).into(),
        body: Some(Body::Process(process)),
        ..Event::default()
    };
    Change::Events { shim: "s".into(), events: vec![event] }
}

/// CPU times in milliseconds after so many milliseconds, by pid. Each has read and written as many
/// KiB, and has as many MiB in memory.
pub(super) fn sampled(at_ms: u64, used: &[(i32, u64)]) -> Change {
    let sample = |(pid, ms): &(i32, u64)| {
        let used = Consumption {
            cpu_ns: ms * 1_000_000,
            rss_bytes: ms << 20,
            io: Some((ms << 10, ms << 10)),
        };
        (entity_id(*pid, 31), Sample { at_ns: at_ms * 1_000_000, used })
    };
    Change::Sampled(used.iter().map(sample).collect::<HashMap<_, _>>())
}

/// A container `web` with the processes 10, its children 11 and 13, and 12, the child of 11.
pub(super) fn tree() -> Vec<Process> {
    vec![
        process(10, 0, &["/bin/sh", "-c", "work"]),
        process(11, 10, &["nginx"]),
        process(12, 11, &["worker", "--idle"]),
        process(13, 10, &["sleep", "9"]),
    ]
}

/// A state with [`tree`].
pub(super) fn web(width: u16, height: u16) -> State {
    let mut state = state(width, height);
    change(&mut state, listed("s", &container("web"), &tree()));
    state
}

pub(super) fn change(state: &mut State, change: Change) {
    assert_eq!(state.update(Message::Changed(change)), None);
    state.refresh();
}

/// Presses keys; a character stands for its key.
pub(super) fn press(state: &mut State, keys: &str) -> Option<Effect> {
    let mut effect = None;
    for character in keys.chars() {
        let key = match character {
            '\r' => Key::Enter,
            '\x1b' => Key::Escape,
            'v' => Key::Down,
            '^' => Key::Up,
            other => Key::Char(other),
        };
        effect = state.update(Message::Key(key));
        state.refresh();
    }
    effect
}

/// A container with long names in Kubernetes, and with CJK, hostile and very long arguments.
pub(super) fn hostile() -> (Container, Vec<Process>) {
    let mut container = container(ID);
    let k8s = Kubernetes {
        namespace: "shop".into(),
        pod_name: "web-7d4b9c8f6d-x2x4z".into(),
        container_name: "app".into(),
        ..Kubernetes::default()
    };
    container.k8s = Some(k8s).into();
    let mut nameless = process(4301, 4016, &[]);
    nameless.cgroup = format!("/kubepods/{ID}");
    let mut exec = process(4304, 0, &["sh", "\u{1b}[2J\u{202e}evil\n\u{200b}"]);
    (exec.origin, exec.exec_id) = ("exec".into(), "\u{1b}]0;x\u{7}".into());
    let processes = vec![
        process(4016, 0, &["/usr/bin/容器", "--说明=每一行都要看得见", "结束"]),
        nameless,
        process(4302, 4016, &["/usr/bin/make", &"--long-option ".repeat(40), "the-end"]),
        process(4303, 4302, &["e\u{301}e\u{301}", "ok"]),
        exec,
    ];
    (container, processes)
}
