use super::*;
use crate::api::{ContainerActive, ContainerClose, ContainerIdle, Gap, Process};

fn event(seq: u64, type_: &str, body: Body) -> Event {
    Event {
        seq,
        type_: type_.into(),
        container: Some(web()).into(),
        body: Some(body),
        ..Default::default()
    }
}

fn web() -> Container {
    Container { id: "web".into(), ..Default::default() }
}

fn process(seq: u64, type_: &str, entity: &str) -> Event {
    event(seq, type_, Body::Process(Process { entity_id: entity.into(), ..Default::default() }))
}

fn port(address: &str, number: u32) -> Port {
    Port { transport: "tcp".into(), address: address.into(), port: number, ..Default::default() }
}

fn change(seq: u64, type_: &str, port: Port) -> Event {
    event(seq, type_, Body::Port(port))
}

fn listed(ports: impl IntoIterator<Item = Port>, seq: u64) -> PortsResponse {
    let of = |port| ContainerPort {
        container: Some(web()).into(),
        port: Some(port).into(),
        ..Default::default()
    };
    PortsResponse { ports: ports.into_iter().map(of).collect(), seq, ..Default::default() }
}

fn gap() -> Event {
    Event { body: Some(Body::Gap(Gap::default())), ..Default::default() }
}

fn processes(view: &View) -> Vec<String> {
    let mut ids: Vec<_> =
        view.processes().iter().map(|one| one.process.entity_id.clone()).collect();
    ids.sort_unstable();
    ids
}

fn open(view: &View) -> Vec<String> {
    view.ports().iter().map(|one| format!("{}:{}", one.port.address, one.port.port)).collect()
}

/// Check that events that a list includes are not applied again, and that a gap requests a new
/// list.
#[test]
fn only_events_after_the_list_are_applied() {
    let mut view = View::default();
    let one = ContainerProcess {
        process: Some(Process { entity_id: "a".into(), ..Default::default() }).into(),
        ..Default::default()
    };
    view.set_processes(
        "e",
        ProcessesResponse { processes: vec![one], seq: 5, ..Default::default() },
    );
    assert!(!view.apply("e", &process(4, "process.start", "b")));
    assert!(!view.apply("e", &process(6, "process.fork", "c")));
    assert_eq!(processes(&view), ["a", "c"]);
    view.apply("e", &process(7, "process.exit", "a"));
    view.apply("other", &process(1, "process.start", "d"));
    assert_eq!(processes(&view), ["c", "d"]);
    assert!(view.apply("e", &gap()));
    view.forget("e");
    assert_eq!(processes(&view), ["d"]);
}

/// Check that events of ports are compared with the list of ports, which may be of another moment
/// than the list of processes.
#[test]
fn only_port_events_after_the_list_of_ports_are_applied() {
    let mut view = View::default();
    view.apply("e", &change(1, "port.open", port("127.0.0.1", 1)));
    view.set_processes("e", ProcessesResponse { seq: 9, ..Default::default() });
    view.apply("e", &change(4, "port.open", port("127.0.0.1", 4)));
    assert_eq!(open(&view), ["127.0.0.1:1", "127.0.0.1:4"]);
    view.set_ports("e", listed([port("::", 80), port("0.0.0.0", 80)], 5));
    view.apply("e", &change(5, "port.close", port("::", 80)));
    assert_eq!(open(&view), ["0.0.0.0:80", ":::80"]);
    view.apply("e", &change(6, "port.close", port("0.0.0.0", 80)));
    view.apply("e", &change(7, "port.open", port("::1", 9)));
    view.apply("e", &change(8, "port.open", port("::1", 9)));
    view.apply("e", &process(9, "process.start", "a"));
    assert_eq!(
        (open(&view), view.counts()),
        (vec!["::1:9".to_owned(), ":::80".to_owned()], (0, 2))
    );
    assert!(view.apply("e", &gap()));
    view.apply("e", &event(10, "container.close", Body::ContainerClose(ContainerClose::default())));
    assert_eq!(open(&view), Vec::<String>::new());
}

/// Check that UDP and TCP of one number are two ports, that a port is left out if no event would
/// report its end, and that the ports of a shim are removed with it.
#[test]
fn ports_without_events_are_left_out_and_ports_go_with_their_shim() {
    let mut view = View::default();
    let udp = |number| Port { transport: "udp".into(), ..port("0.0.0.0", number) };
    let mut answer = listed([udp(53), port("0.0.0.0", 53), udp(5000)], 1);
    answer.ports[2].listed_only = true;
    view.set_ports("e", answer);
    view.apply("other", &change(1, "port.open", port("::", 1)));
    let transports =
        |view: &View| view.ports().iter().map(|one| one.port.transport.clone()).collect::<Vec<_>>();
    assert_eq!(
        (open(&view), view.counts().1),
        (["0.0.0.0:53", "0.0.0.0:53", ":::1"].map(str::to_owned).into(), 3)
    );
    assert_eq!(transports(&view), ["tcp", "udp", "tcp"]);
    view.apply("e", &change(2, "port.close", udp(53)));
    assert_eq!(transports(&view), ["tcp", "tcp"]);
    view.forget("e");
    assert_eq!(open(&view), [":::1"]);
}

/// Check that one port in two network namespaces is two ports, of which one closes alone, and that
/// a port of a shim that reports no namespace opens and closes.
#[test]
fn two_namespaces_with_one_port_stay_apart() {
    let within = |network_namespace| Port { network_namespace, ..port("0.0.0.0", 8080) };
    let mut view = View::default();
    view.set_ports("e", listed([within(Some(1)), within(Some(2))], 1));
    view.apply("e", &change(2, "port.open", within(Some(3))));
    view.apply("e", &change(3, "port.close", within(Some(2))));
    let open: Vec<_> = view.ports().iter().map(|one| one.port.network_namespace).collect();
    assert_eq!(open, [Some(1), Some(3)]);
    view.apply("old", &change(1, "port.open", within(None)));
    assert_eq!(view.counts().1, 3);
    view.apply("old", &change(2, "port.close", within(None)));
    assert_eq!(view.counts().1, 2);
}

/// Check that a container is idle from its event, or from the list, until it is active, its init
/// exits or it is closed.
#[test]
fn a_container_is_idle_until_it_is_active_exits_or_is_closed() {
    let mut view = View::default();
    let ids = |view: &View| view.idle().into_iter().map(|one| one.id).collect::<Vec<_>>();
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
    view.set_processes("e", ProcessesResponse { seq: 2, idle: vec![web()], ..Default::default() });
    view.apply("e", &active(2));
    assert_eq!(ids(&view), ["web"], "the list includes it");
    view.apply("e", &active(3));
    assert_eq!(ids(&view), [""; 0]);
    view.apply("e", &idle(4));
    view.apply("e", &exit(5, "descendant"));
    assert_eq!(ids(&view), ["web"]);
    view.apply("e", &exit(6, "init"));
    assert_eq!(ids(&view), [""; 0]);
    view.apply("e", &idle(7));
    view.apply("e", &event(8, "container.close", Body::ContainerClose(ContainerClose::default())));
    assert_eq!(ids(&view), [""; 0]);
    view.apply("e", &idle(9));
    view.forget("e");
    assert_eq!(ids(&view), [""; 0]);
}
