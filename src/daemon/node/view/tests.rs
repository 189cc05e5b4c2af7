use super::*;
use crate::api::{ContainerActive, ContainerClose, ContainerIdle, Gap, Process};

fn event(seq: u64, type_: &str, body: Body) -> Event {
    Event {
        seq,
        type_: type_.into(),
        container: Some(web_container()).into(),
        body: Some(body),
        ..Default::default()
    }
}

fn web_container() -> Container {
    Container { id: "web".into(), ..Default::default() }
}

fn process_event(seq: u64, type_: &str, entity: &str) -> Event {
    event(seq, type_, Body::Process(Process { entity_id: entity.into(), ..Default::default() }))
}

fn port(address: &str, number: u32) -> Port {
    Port { transport: "tcp".into(), address: address.into(), port: number, ..Default::default() }
}

fn port_event(seq: u64, type_: &str, port: Port) -> Event {
    event(seq, type_, Body::Port(port))
}

fn ports_response(ports: impl IntoIterator<Item = Port>, seq: u64) -> PortsResponse {
    let of = |port| ContainerPort {
        container: Some(web_container()).into(),
        port: Some(port).into(),
        ..Default::default()
    };
    PortsResponse { ports: ports.into_iter().map(of).collect(), seq, ..Default::default() }
}

fn gap_event() -> Event {
    Event { body: Some(Body::Gap(Gap::default())), ..Default::default() }
}

fn entity_ids(view: &NodeView) -> Vec<String> {
    let mut ids: Vec<_> =
        view.processes().iter().map(|one| one.process.entity_id.clone()).collect();
    ids.sort_unstable();
    ids
}

fn open_ports(view: &NodeView) -> Vec<String> {
    view.ports_after(None)
        .map(|(_, one)| format!("{}:{}", one.port.address, one.port.port))
        .collect()
}

/// Check that events that a list of processes includes are not applied again, and that a gap
/// requests a new list.
#[test]
fn only_events_after_the_list_are_applied() {
    let mut view = NodeView::default();
    let one = ContainerProcess {
        process: Some(Process { entity_id: "a".into(), ..Default::default() }).into(),
        ..Default::default()
    };
    view.set_processes(
        "e",
        ProcessesResponse { processes: vec![one], seq: 5, ..Default::default() },
    );
    assert!(!view.apply_event("e", &process_event(4, "process.start", "b")));
    assert!(!view.apply_event("e", &process_event(6, "process.fork", "c")));
    assert_eq!(entity_ids(&view), ["a", "c"]);
    view.apply_event("e", &process_event(7, "process.exit", "a"));
    view.apply_event("other", &process_event(1, "process.start", "d"));
    assert_eq!(entity_ids(&view), ["c", "d"]);
    assert!(view.apply_event("e", &gap_event()));
    view.remove_shim("e");
    assert_eq!(entity_ids(&view), ["d"]);
}

/// Check that events of ports are compared with the list of ports, which may be of another moment
/// than the list of processes.
#[test]
fn only_port_events_after_the_list_of_ports_are_applied() {
    let mut view = NodeView::default();
    view.apply_event("e", &port_event(1, "port.open", port("127.0.0.1", 1)));
    view.set_processes("e", ProcessesResponse { seq: 9, ..Default::default() });
    view.apply_event("e", &port_event(4, "port.open", port("127.0.0.1", 4)));
    assert_eq!(open_ports(&view), ["127.0.0.1:1", "127.0.0.1:4"]);
    view.set_ports("e", ports_response([port("::", 80), port("0.0.0.0", 80)], 5));
    view.apply_event("e", &port_event(5, "port.close", port("::", 80)));
    assert_eq!(open_ports(&view), ["0.0.0.0:80", ":::80"]);
    view.apply_event("e", &port_event(6, "port.close", port("0.0.0.0", 80)));
    view.apply_event("e", &port_event(7, "port.open", port("::1", 9)));
    view.apply_event("e", &port_event(8, "port.open", port("::1", 9)));
    view.apply_event("e", &process_event(9, "process.start", "a"));
    assert_eq!(
        (open_ports(&view), view.process_and_port_counts()),
        (vec!["::1:9".to_owned(), ":::80".to_owned()], (0, 2))
    );
    assert!(view.apply_event("e", &gap_event()));
    view.apply_event(
        "e",
        &event(10, "container.close", Body::ContainerClose(ContainerClose::default())),
    );
    assert_eq!(open_ports(&view), Vec::<String>::new());
}

/// Check that UDP and TCP of one number are two ports, that a port is left out if no event would
/// report its end, and that the ports of a shim are removed with it.
#[test]
fn listed_only_ports_are_left_out_and_ports_end_with_their_shim() {
    let mut view = NodeView::default();
    let udp = |number| Port { transport: "udp".into(), ..port("0.0.0.0", number) };
    let mut answer = ports_response([udp(53), port("0.0.0.0", 53), udp(5000)], 1);
    answer.ports[2].listed_only = true;
    view.set_ports("e", answer);
    view.apply_event("other", &port_event(1, "port.open", port("::", 1)));
    let transports = |view: &NodeView| {
        view.ports_after(None).map(|(_, one)| one.port.transport.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (open_ports(&view), view.process_and_port_counts().1),
        (["0.0.0.0:53", "0.0.0.0:53", ":::1"].map(str::to_owned).into(), 3)
    );
    assert_eq!(transports(&view), ["tcp", "udp", "tcp"]);
    view.apply_event("e", &port_event(2, "port.close", udp(53)));
    assert_eq!(transports(&view), ["tcp", "tcp"]);
    view.remove_shim("e");
    assert_eq!(open_ports(&view), [":::1"]);
}

/// Check that one port in two network namespaces is two ports, of which one closes alone, and that
/// a port of a shim that reports no namespace opens and closes.
#[test]
fn a_port_in_two_network_namespaces_is_two_ports() {
    let within = |network_namespace| Port { network_namespace, ..port("0.0.0.0", 8080) };
    let mut view = NodeView::default();
    view.set_ports("e", ports_response([within(Some(1)), within(Some(2))], 1));
    view.apply_event("e", &port_event(2, "port.open", within(Some(3))));
    view.apply_event("e", &port_event(3, "port.close", within(Some(2))));
    let open: Vec<_> = view.ports_after(None).map(|(_, one)| one.port.network_namespace).collect();
    assert_eq!(open, [Some(1), Some(3)]);
    view.apply_event("old", &port_event(1, "port.open", within(None)));
    assert_eq!(view.process_and_port_counts().1, 3);
    view.apply_event("old", &port_event(2, "port.close", within(None)));
    assert_eq!(view.process_and_port_counts().1, 2);
}

/// Check that a container is idle from its event, or from the list, until it is active, its init
/// exits or it is closed.
#[test]
fn a_container_is_idle_until_it_is_active_exits_or_is_closed() {
    let mut view = NodeView::default();
    let ids =
        |view: &NodeView| view.idle_containers().into_iter().map(|one| one.id).collect::<Vec<_>>();
    let idle = |seq| event(seq, "container.idle", Body::ContainerIdle(ContainerIdle::default()));
    let active =
        |seq| event(seq, "container.active", Body::ContainerActive(ContainerActive::default()));
    let exit = |seq, origin: &str| {
        event(
            seq,
            "process.exit",
            Body::Process(Process { origin: origin.into(), ..Default::default() }),
        )
    };
    view.set_processes(
        "e",
        ProcessesResponse { seq: 2, idle: vec![web_container()], ..Default::default() },
    );
    view.apply_event("e", &active(2));
    assert_eq!(ids(&view), ["web"], "the list includes it");
    view.apply_event("e", &active(3));
    assert_eq!(ids(&view), [""; 0]);
    view.apply_event("e", &idle(4));
    view.apply_event("e", &exit(5, "descendant"));
    assert_eq!(ids(&view), ["web"]);
    view.apply_event("e", &exit(6, "init"));
    assert_eq!(ids(&view), [""; 0]);
    view.apply_event("e", &idle(7));
    view.apply_event(
        "e",
        &event(8, "container.close", Body::ContainerClose(ContainerClose::default())),
    );
    assert_eq!(ids(&view), [""; 0]);
    view.apply_event("e", &idle(9));
    view.remove_shim("e");
    assert_eq!(ids(&view), [""; 0]);
}

/// The list of all rows, put together from pages of this many, between which `changes` happen.
fn paged<P: Clone, T>(
    view: &mut NodeView,
    count: usize,
    rows: impl Fn(&NodeView, Option<P>) -> Vec<(P, T)>,
    mut between: impl FnMut(&mut NodeView),
) -> Vec<T> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let mut page = rows(view, after);
        page.truncate(count);
        let Some((last, _)) = page.last() else { return all };
        after = Some(last.clone());
        all.extend(page.into_iter().map(|(_, row)| row));
        between(view);
    }
}

/// Check that a list of 65,536 processes and ports that is put together from pages has each once,
/// also if others begin and end meanwhile.
#[test]
fn a_list_of_pages_has_every_row_once() {
    const COUNT: u64 = 65_536;
    let mut view = NodeView::default();
    let process = |shim: u64, number: u64| Process {
        // Many are created within one clock tick.
        created_ns: number / 100,
        pid: i32::try_from(number % 32_768).unwrap(),
        entity_id: format!("{shim}-{number}"),
        ..Default::default()
    };
    let started = |shim, number| event(0, "process.start", Body::Process(process(shim, number)));
    let opened = |number: u64| {
        let address = format!("10.0.{}.1", number % 256);
        port_event(0, "port.open", port(&address, u32::try_from(number / 256 + 1).unwrap()))
    };
    for number in 0..COUNT {
        let shim = number % 3;
        view.apply_event(&format!("e{shim}"), &started(shim, number));
        view.apply_event(&format!("e{shim}"), &opened(number));
    }
    let ended = |number| event(0, "process.exit", Body::Process(process(1, number)));
    let mut more = COUNT;
    let ids = paged(
        &mut view,
        1000,
        |view, after| {
            let rows = view.processes_after(after);
            rows.map(|(position, one)| (position, one.process.entity_id.clone())).collect()
        },
        |view| {
            view.apply_event("e1", &started(1, more));
            view.apply_event("e1", &ended(more));
            more += 1;
        },
    );
    let distinct: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!((ids.len() as u64, distinct.len() as u64), (COUNT, COUNT));
    let ports = paged(
        &mut view,
        1000,
        |view, after| {
            let rows = view.ports_after(after);
            rows.map(|(position, one)| (position, (one.port.address.clone(), one.port.port)))
                .collect()
        },
        |_| {},
    );
    let distinct: std::collections::HashSet<_> = ports.iter().collect();
    assert_eq!((ports.len() as u64, distinct.len() as u64), (COUNT, COUNT));
}
