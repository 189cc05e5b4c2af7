use std::net::TcpListener;

use proptest::prelude::*;

use super::{message::dump_parts, *};
use crate::model::Transport;

/// Check that a dump finds this process's own listeners, v4 and v6, with their inodes.
#[test]
fn a_dump_finds_every_listener() {
    let listeners: Vec<TcpListener> = ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"]
        .map(|address| TcpListener::bind(address).unwrap())
        .into();
    let own = own_namespace().unwrap();
    let (namespace, found) = super::list(0, own, SocketState::Listening).unwrap();
    assert_eq!((namespace.inode, namespace.cookie), (own, Some(cookie_of(0, own).unwrap())));
    for listener in listeners {
        use std::os::fd::AsRawFd as _;
        let address = listener.local_addr().unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let ours = found
            .iter()
            .find(|one| one.socket.endpoint.port == address.port())
            .expect("it is found");
        assert_eq!(ours.socket.endpoint.address, address.ip());
        assert_eq!(link.to_str().unwrap(), format!("socket:[{}]", ours.socket.inode));
        assert!(!ours.socket.endpoint.dual_stack && ours.socket.network_namespace == namespace);
    }
}

/// Check that a bound UDP socket is found, and a connected one only if it is requested.
#[test]
fn bound_udp_sockets_are_found() {
    let [bound, connected] = [0; 2].map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    connected.connect(bound.local_addr().unwrap()).unwrap();
    let find = |state| super::list(0, own_namespace().unwrap(), state).unwrap().1;
    let is_found = |found: &[ListedSocket], socket: &std::net::UdpSocket| {
        let port = socket.local_addr().unwrap().port();
        found.iter().any(|one| {
            one.socket.endpoint.port == port && one.socket.endpoint.transport == Transport::Udp
        })
    };
    for (state, also_connected) in [(SocketState::Bound, false), (SocketState::WithPort, true)] {
        let found = find(state);
        assert_eq!(
            (is_found(&found, &bound), is_found(&found, &connected)),
            (true, also_connected)
        );
    }
}

proptest! {
    /// Check that no bytes can panic the parser or keep it busy for ever.
    #[test]
    fn any_bytes_are_parsed(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = dump_parts(&bytes, NetworkNamespace::default(), SocketState::Listening).count();
    }
}
