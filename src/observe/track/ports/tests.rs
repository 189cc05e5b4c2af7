use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::model::{ProcessKey, Transport};

const T: TargetId = TargetId(7);

/// The namespace in which a socket is, unless the test says otherwise.
const HERE: NetworkNamespace = namespace(1, 11);
const NESTED: NetworkNamespace = namespace(2, 12);

const fn namespace(inode: u32, cookie: u64) -> NetworkNamespace {
    NetworkNamespace { inode, cookie: Some(cookie) }
}

fn socket(cookie: u64, port: u16) -> Socket {
    let endpoint = Endpoint::new(Transport::Tcp, IpAddr::from([127, 0, 0, 1]), port, false);
    Socket { cookie, inode: cookie + 1000, network_namespace: HERE, endpoint }
}

fn socket_in(network_namespace: NetworkNamespace, cookie: u64, port: u16) -> Socket {
    Socket { network_namespace, ..socket(cookie, port) }
}

fn udp(socket: Socket) -> Socket {
    Socket { endpoint: Endpoint { transport: Transport::Udp, ..socket.endpoint }, ..socket }
}

/// A dump of these namespaces that has found these listening sockets.
fn dump_of(namespaces: &[NetworkNamespace], found: Vec<(Socket, Vec<Owner>)>) -> Dump {
    let read = |namespace: &NetworkNamespace| {
        (namespace.inode, ReadNamespace { namespace: *namespace, has_udp: false })
    };
    let owners = |owners: Vec<Owner>| {
        let keys = owners.iter().map(|owner| owner.key).collect();
        Owners::of(keys, |key| Owner::unknown(key, None))
    };
    Dump {
        read: namespaces.iter().map(read).collect(),
        alive: found.iter().map(|(socket, _)| socket.cookie).collect(),
        found: found.into_iter().map(|(socket, of)| (socket, owners(of))).collect(),
        released: HashSet::new(),
    }
}

/// The same, of the UDP sockets with these cookies too.
fn with_udp(mut dump: Dump, cookies: &[u64]) -> Dump {
    dump.read.values_mut().for_each(|read| read.has_udp = true);
    dump.alive.extend(cookies);
    dump
}

fn owner(pid: i32) -> Owner {
    Owner::unknown(ProcessKey::new(pid, 5), None)
}

/// Each change as: whether the port opened, its number, the pids of its owners.
fn summary(changes: &[Change]) -> Vec<(bool, u16, Vec<i32>)> {
    let pids = |port: &Port| port.owners.named.iter().map(|owner| owner.key.pid).collect();
    changes
        .iter()
        .map(|change| (change.is_open, change.port.endpoint.port, pids(&change.port)))
        .collect()
}

/// Check that a port opens once and closes once, with the process that made it listen.
#[test]
fn a_port_opens_and_closes() {
    let mut ports = Ports::default();
    assert_eq!(
        summary(&ports.listen(T, 1, socket(1, 80), owner(10)).unwrap()),
        [(true, 80, vec![10])]
    );
    assert_eq!(ports.snapshot(T, None, usize::MAX).len(), 1);
    assert_eq!(summary(&ports.unlisten(T, 2, socket(1, 80))), [(false, 80, vec![10])]);
    assert_eq!(ports.unlisten(T, 3, socket(1, 80)), []);
    assert_eq!(ports.snapshot(T, None, usize::MAX), []);
}

/// Check that of several sockets on one port (SO_REUSEPORT) the first opens it and the last closes
/// it.
#[test]
fn several_sockets_are_one_port() {
    let mut ports = Ports::default();
    assert_eq!(ports.listen(T, 1, socket(1, 80), owner(10)).unwrap().len(), 1);
    assert_eq!(ports.listen(T, 2, socket(2, 80), owner(11)), Ok(Vec::new()));
    let pids: Vec<i32> = ports.snapshot(T, None, usize::MAX)[0]
        .owners
        .named
        .iter()
        .map(|owner| owner.key.pid)
        .collect();
    assert_eq!(pids, [10, 11]);
    assert_eq!(ports.unlisten(T, 3, socket(1, 80)), []);
    assert_eq!(summary(&ports.unlisten(T, 4, socket(2, 80))), [(false, 80, vec![11])]);
}

/// Check that if the kernel chooses the port after listen(2), it is reported with its number, at
/// the time at which it opened: from a dump, or if the socket closed before one, from its end.
#[test]
fn a_port_opens_once_its_number_is_known() {
    let mut ports = Ports::default();
    assert_eq!(ports.listen(T, 1, socket(1, 0), owner(10)), Ok(Vec::new()));
    assert!(ports.awaits_number(T));
    ports.begin_dump(T, 2);
    let found = ports.apply_dump(T, 3, dump_of(&[HERE], vec![(socket(1, 4000), Vec::new())]));
    assert_eq!(
        (summary(&found), found[0].at_ns, found[0].is_late),
        (vec![(true, 4000, vec![10])], 1, true)
    );
    assert!(!ports.awaits_number(T));
    ports.listen(T, 5, socket(2, 0), owner(11)).unwrap();
    let both = ports.unlisten(T, 6, socket(2, 4001));
    assert_eq!(summary(&both), [(true, 4001, vec![11]), (false, 4001, vec![11])]);
    assert_eq!((both[0].at_ns, both[1].at_ns), (5, 6));
    ports.listen(T, 7, socket(3, 0), owner(12)).unwrap();
    assert_eq!(ports.unlisten(T, 8, socket(3, 0)), []);
    assert!(!ports.awaits_number(T));
}

/// Check that a dump opens the ports that no record had, closes those that it lacks, and changes no
/// socket that was opened or closed during it.
#[test]
fn a_dump_reports_the_differences() {
    let mut ports = Ports::default();
    for (cookie, port) in [(1, 80), (2, 81), (4, 83)] {
        ports.listen(T, 1, socket(cookie, port), owner(10)).unwrap();
    }
    ports.begin_dump(T, 10);
    ports.listen(T, 11, socket(3, 82), owner(10)).unwrap();
    ports.unlisten(T, 12, socket(4, 83));
    let found = vec![
        (socket(1, 80), Vec::new()),
        (socket(4, 83), Vec::new()),
        (socket(5, 84), vec![owner(20)]),
    ];
    let changes = ports.apply_dump(T, 13, dump_of(&[HERE], found));
    assert_eq!(summary(&changes), [(false, 81, vec![10]), (true, 84, vec![20])]);
    let open: Vec<u16> =
        ports.snapshot(T, None, usize::MAX).iter().map(|port| port.endpoint.port).collect();
    assert_eq!(open, [80, 82, 84]);
}

/// Check that TCP and UDP of one number are two ports, and that a dump closes a UDP port only if it
/// has read UDP sockets, and opens none.
#[test]
fn a_udp_port_is_closed_by_a_dump_of_udp_only() {
    let mut ports = Ports::default();
    assert_eq!(summary(&ports.listen(T, 1, socket(1, 80), owner(10)).unwrap()).len(), 1);
    assert_eq!(
        summary(&ports.listen(T, 1, udp(socket(2, 80)), owner(11)).unwrap()),
        [(true, 80, vec![11])]
    );
    assert_eq!(ports.snapshot(T, None, usize::MAX).len(), 2);
    let listening = || dump_of(&[HERE], vec![(socket(1, 80), Vec::new())]);
    ports.begin_dump(T, 2);
    assert_eq!(ports.apply_dump(T, 3, listening()), []);
    ports.begin_dump(T, 4);
    assert_eq!(ports.apply_dump(T, 5, with_udp(listening(), &[2, 3])), []);
    ports.begin_dump(T, 6);
    let closed = ports.apply_dump(T, 7, with_udp(listening(), &[3]));
    assert_eq!(
        (summary(&closed), closed[0].port.endpoint.transport),
        (vec![(false, 80, vec![11])], Transport::Udp)
    );
    assert_eq!(summary(&ports.unlisten(T, 8, socket(1, 80))), [(false, 80, vec![10])]);
}

/// Check that one port in two namespaces is two ports, TCP as UDP, and that each closes alone.
#[test]
fn two_namespaces_with_one_port_stay_apart() {
    for of in [|socket| socket, udp] {
        let mut ports = Ports::default();
        let (ours, nested) = (of(socket(1, 80)), of(socket_in(NESTED, 2, 80)));
        assert_eq!(ports.listen(T, 1, ours, owner(10)).unwrap().len(), 1);
        let opened = ports.listen(T, 2, nested, owner(11)).unwrap();
        assert_eq!(summary(&opened), [(true, 80, vec![11])]);
        assert_eq!(opened[0].port.network_namespace, NESTED);
        let listed: Vec<_> =
            ports.snapshot(T, None, usize::MAX).iter().map(|port| port.network_namespace).collect();
        assert_eq!(listed, [HERE, NESTED]);
        let closed = ports.unlisten(T, 3, nested);
        assert_eq!(summary(&closed), [(false, 80, vec![11])]);
        assert_eq!(closed[0].port.network_namespace, NESTED);
        assert_eq!(ports.snapshot(T, None, usize::MAX)[0].network_namespace, HERE);
    }
}

/// Check that a dump closes nothing in a namespace that it has not read, unless no process holds
/// the socket any longer.
#[test]
fn a_dump_shows_nothing_of_another_namespace() {
    for of in [|socket| socket, udp] {
        let mut ports = Ports::default();
        for cookie in [2, 3] {
            let nested = of(socket_in(NESTED, cookie, u16::try_from(cookie).unwrap()));
            ports.listen(T, 1, nested, owner(11)).unwrap();
        }
        ports.begin_dump(T, 5);
        assert_eq!(ports.apply_dump(T, 6, with_udp(dump_of(&[HERE], Vec::new()), &[])), []);
        ports.begin_dump(T, 7);
        let released = HashSet::from([3]);
        let dump = Dump { released, ..with_udp(dump_of(&[HERE], Vec::new()), &[]) };
        assert_eq!(summary(&ports.apply_dump(T, 8, dump)), [(false, 3, vec![11])]);
        ports.begin_dump(T, 9);
        let closed = ports.apply_dump(T, 10, with_udp(dump_of(&[HERE, NESTED], Vec::new()), &[]));
        assert_eq!(summary(&closed), [(false, 2, vec![11])]);
    }
}

/// Check that a socket of the target that is in the list stays open, although the list does not
/// show that it belongs to the target.
#[test]
fn a_known_socket_stays_open_while_the_kernel_lists_it() {
    let mut ports = Ports::default();
    ports.listen(T, 1, socket(1, 80), owner(10)).unwrap();
    ports.begin_dump(T, 2);
    let dump = Dump { alive: HashSet::from([1]), ..dump_of(&[HERE], Vec::new()) };
    assert_eq!(ports.apply_dump(T, 3, dump), []);
}

/// Check that a namespace with the number of an ended one is another namespace: the ports of the
/// ended one are closed first, whether a record or a dump shows the new one.
#[test]
fn a_reused_number_is_another_namespace() {
    let again = namespace(NESTED.inode, 99);
    let mut ports = Ports::default();
    ports.listen(T, 1, socket(1, 80), owner(10)).unwrap();
    ports.listen(T, 1, socket_in(NESTED, 2, 80), owner(11)).unwrap();
    // The record of its close was lost.
    let changes = ports.listen(T, 5, socket_in(again, 3, 80), owner(12)).unwrap();
    assert_eq!(summary(&changes), [(false, 80, vec![11]), (true, 80, vec![12])]);
    assert_eq!(ports.unlisten(T, 6, socket_in(NESTED, 2, 80)), []);
    let third = namespace(NESTED.inode, 100);
    ports.begin_dump(T, 7);
    let found = vec![(socket_in(third, 4, 80), vec![owner(13)])];
    let changes = ports.apply_dump(T, 8, dump_of(&[third], found));
    assert_eq!(summary(&changes), [(false, 80, vec![12]), (true, 80, vec![13])]);
    ports.begin_dump(T, 9);
    let changes = ports.apply_dump(T, 10, dump_of(&[namespace(NESTED.inode, 101)], Vec::new()));
    assert_eq!(summary(&changes), [(false, 80, vec![13])]);
    assert_eq!(ports.snapshot(T, None, usize::MAX).len(), 1);
}

/// Check that the end of a target closes its open ports and forgets it.
#[test]
fn the_end_closes_the_open_ports() {
    let mut ports = Ports::default();
    ports.listen(T, 1, socket(1, 80), owner(10)).unwrap();
    ports.listen(T, 1, socket(2, 80), owner(11)).unwrap();
    ports.listen(T, 1, socket(3, 0), owner(12)).unwrap();
    assert_eq!(summary(&ports.end(T, 9)), [(false, 80, vec![10, 11])]);
    assert_eq!(ports.end(T, 10), []);
}

/// Check that there is a limit, and that it is an error.
#[test]
fn too_many_sockets_are_refused() {
    let mut ports = Ports::default();
    for cookie in 0..SOCKETS_MAX as u64 {
        ports.listen(T, 1, socket(cookie, 80), owner(1)).unwrap();
    }
    assert_eq!(ports.listen(T, 1, socket(1 << 40, 80), owner(1)), Err(Full));
}

#[derive(Debug, Clone)]
enum Step {
    Listen(u64),
    Unlisten(u64),
    /// A dump is taken of the first, the second, or both namespaces.
    Dump(usize, usize),
    /// The record of the next step is lost.
    Lose,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..12u64).prop_map(Step::Listen),
        3 => (0..12u64).prop_map(Step::Unlisten),
        1 => prop_oneof![Just((0, 1)), Just((1, 2)), Just((0, 2))]
            .prop_map(|(from, to)| Step::Dump(from, to)),
        1 => Just(Step::Lose),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    /// Check against a set of sockets in two namespaces that each port opens and closes by turns,
    /// whatever is lost, and that after a dump the reported ports of its namespaces are the open
    /// ones.
    #[test]
    fn the_reported_ports_are_the_open_ones(steps in steps()) {
        let mut ports = Ports::default();
        let mut alive: BTreeMap<u64, Socket> = BTreeMap::new();
        let mut open: BTreeSet<(NetworkNamespace, u16)> = BTreeSet::new();
        let (mut now, mut next, mut lose) = (0, 100, false);
        let mut apply = |changes: Vec<Change>| {
            for change in changes {
                let port = (change.port.network_namespace, change.port.endpoint.port);
                assert_ne!(port.1, 0);
                let is_new =
                    if change.is_open { open.insert(port) } else { open.remove(&port) };
                assert!(is_new, "{change:?} twice");
            }
            open.clone()
        };
        for step in steps {
            now += 1;
            match step {
                Step::Listen(slot) => {
                    // Three sockets share a port number, in two namespaces; one slot in four has
                    // its number chosen late.
                    let number = u16::try_from(slot / 3 + 1).unwrap();
                    let within = if slot % 2 == 0 { HERE } else { NESTED };
                    let cookie = slot * 1_000_000 + next;
                    if alive.keys().any(|alive| alive / 1_000_000 == slot) {
                        continue;
                    }
                    next += 1;
                    alive.insert(cookie, socket_in(within, cookie, number));
                    let at_first =
                        socket_in(within, cookie, if slot % 4 == 0 { 0 } else { number });
                    if !std::mem::take(&mut lose) {
                        apply(ports.listen(T, now, at_first, owner(1)).unwrap());
                    }
                }
                Step::Unlisten(slot) => {
                    let in_slot = |cookie: &&u64| *cookie / 1_000_000 == slot;
                    let Some(cookie) = alive.keys().find(in_slot).copied() else { continue };
                    let socket = alive.remove(&cookie).unwrap();
                    if !std::mem::take(&mut lose) {
                        apply(ports.unlisten(T, now, socket));
                    }
                }
                Step::Lose => lose = true,
                Step::Dump(from, to) => {
                    let read = &[HERE, NESTED][from..to];
                    ports.begin_dump(T, now);
                    let is_read = |socket: &&Socket| read.contains(&socket.network_namespace);
                    let found = alive.values().filter(is_read);
                    let found = found.map(|socket| (*socket, Vec::new())).collect();
                    let mut reported = apply(ports.apply_dump(T, now, dump_of(read, found)));
                    reported.retain(|(namespace, _)| read.contains(namespace));
                    let port = |socket: &Socket| (socket.network_namespace, socket.endpoint.port);
                    let truth: BTreeSet<_> = alive.values().filter(is_read).map(port).collect();
                    prop_assert_eq!(&reported, &truth);
                    prop_assert!(read.len() < 2 || !ports.awaits_number(T));
                }
            }
        }
        let left = apply(ports.end(T, now + 1));
        prop_assert!(left.is_empty());
    }
}
