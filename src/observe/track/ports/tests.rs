use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::model::{ProcessKey, Transport};

const T: TargetId = TargetId(7);

fn socket(cookie: u64, port: u16) -> Socket {
    let endpoint = Endpoint::new(Transport::Tcp, IpAddr::from([127, 0, 0, 1]), port, false);
    Socket { cookie, inode: cookie + 1000, network_namespace: 1, endpoint }
}

fn owner(pid: i32) -> Owner {
    Owner::unknown(ProcessKey::new(pid, 5), None)
}

/// Each change as: whether the port opened, its number, the pids of its owners.
fn summary(changes: &[Change]) -> Vec<(bool, u16, Vec<i32>)> {
    let pids = |port: &Port| port.owners.iter().map(|owner| owner.key.pid).collect();
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
    assert_eq!(ports.snapshot(T).len(), 1);
    assert_eq!(summary(&ports.unlisten(T, 2, socket(1, 80))), [(false, 80, vec![10])]);
    assert_eq!(ports.unlisten(T, 3, socket(1, 80)), []);
    assert_eq!(ports.snapshot(T), []);
}

/// Check that of several sockets on one port (SO_REUSEPORT) the first opens it and the last closes
/// it.
#[test]
fn several_sockets_are_one_port() {
    let mut ports = Ports::default();
    assert_eq!(ports.listen(T, 1, socket(1, 80), owner(10)).unwrap().len(), 1);
    assert_eq!(ports.listen(T, 2, socket(2, 80), owner(11)), Ok(Vec::new()));
    let pids: Vec<i32> = ports.snapshot(T)[0].owners.iter().map(|owner| owner.key.pid).collect();
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
    let found = ports.apply_dump(T, 3, vec![(socket(1, 4000), Vec::new())], None);
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
    let changes = ports.apply_dump(T, 13, found, None);
    assert_eq!(summary(&changes), [(false, 81, vec![10]), (true, 84, vec![20])]);
    let open: Vec<u16> = ports.snapshot(T).iter().map(|port| port.endpoint.port).collect();
    assert_eq!(open, [80, 82, 84]);
}

/// Check that TCP and UDP of one number are two ports, and that a dump closes a UDP port only if it
/// has read UDP sockets, and opens none.
#[test]
fn a_udp_port_is_closed_by_a_dump_of_udp_only() {
    let mut ports = Ports::default();
    let udp = |cookie| {
        let mut socket = socket(cookie, 80);
        socket.endpoint.transport = Transport::Udp;
        socket
    };
    assert_eq!(summary(&ports.listen(T, 1, socket(1, 80), owner(10)).unwrap()).len(), 1);
    assert_eq!(summary(&ports.listen(T, 1, udp(2), owner(11)).unwrap()), [(true, 80, vec![11])]);
    assert_eq!(ports.snapshot(T).len(), 2);
    let listening = || vec![(socket(1, 80), Vec::new())];
    ports.begin_dump(T, 2);
    assert_eq!(ports.apply_dump(T, 3, listening(), None), []);
    ports.begin_dump(T, 4);
    assert_eq!(ports.apply_dump(T, 5, listening(), Some(&HashSet::from([2, 3]))), []);
    ports.begin_dump(T, 6);
    let closed = ports.apply_dump(T, 7, listening(), Some(&HashSet::from([3])));
    assert_eq!(
        (summary(&closed), closed[0].port.endpoint.transport),
        (vec![(false, 80, vec![11])], Transport::Udp)
    );
    assert_eq!(summary(&ports.unlisten(T, 8, socket(1, 80))), [(false, 80, vec![10])]);
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
    /// A dump is taken.
    Dump,
    /// The record of the next step is lost.
    Lose,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..12u64).prop_map(Step::Listen),
        3 => (0..12u64).prop_map(Step::Unlisten),
        1 => Just(Step::Dump),
        1 => Just(Step::Lose),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    /// Check against a set of sockets that each port opens and closes by turns, whatever is lost,
    /// and that after a dump the reported ports are the open ones.
    #[test]
    fn the_reported_ports_are_the_open_ones(steps in steps()) {
        let mut ports = Ports::default();
        let mut alive: BTreeMap<u64, Socket> = BTreeMap::new();
        let mut open: BTreeSet<u16> = BTreeSet::new();
        let (mut now, mut next, mut lose) = (0, 100, false);
        let mut apply = |changes: Vec<Change>| {
            for change in changes {
                let port = change.port.endpoint.port;
                assert_ne!(port, 0);
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
                    // Three sockets share a port; one slot in four has its number chosen late.
                    let number = u16::try_from(slot / 3 + 1).unwrap();
                    let cookie = slot * 1_000_000 + next;
                    if alive.keys().any(|alive| alive / 1_000_000 == slot) {
                        continue;
                    }
                    next += 1;
                    alive.insert(cookie, socket(cookie, number));
                    let at_first = socket(cookie, if slot % 4 == 0 { 0 } else { number });
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
                Step::Dump => {
                    ports.begin_dump(T, now);
                    let found = alive.values().map(|socket| (*socket, Vec::new())).collect();
                    let reported = apply(ports.apply_dump(T, now, found, None));
                    let truth: BTreeSet<u16> =
                        alive.values().map(|socket| socket.endpoint.port).collect();
                    prop_assert_eq!(&reported, &truth);
                    prop_assert!(!ports.awaits_number(T));
                }
            }
        }
        let left = apply(ports.end(T, now + 1));
        prop_assert!(left.is_empty());
    }
}
