//! The fuzz target of the kernel's list of sockets.

use super::message::{DumpPart, dump_parts};
use crate::model::{NetworkNamespace, SocketState, Transport};

/// Parses a datagram of a dump. The first byte chooses the state that was asked for.
pub(crate) fn dump(bytes: &[u8]) {
    let Some((state, datagram)) = bytes.split_first() else { return };
    let state = match state {
        b'l' => SocketState::Listening,
        b'e' => SocketState::Established,
        b'b' => SocketState::Bound,
        _ => SocketState::WithPort,
    };
    let is_udp = matches!(state, SocketState::Bound | SocketState::WithPort);
    let mut parts = 0;
    for part in dump_parts(datagram, NetworkNamespace::default(), state) {
        parts += 1;
        if let Ok(DumpPart::Socket(found)) = part {
            assert_eq!(found.socket.endpoint.transport == Transport::Udp, is_udp);
        }
    }
    // Each has a header of 16 bytes.
    assert!(parts * 16 <= datagram.len());
}
