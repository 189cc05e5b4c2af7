//! The messages of `sock_diag(7)`: `nlmsghdr`, `inet_diag_req_v2`, `inet_diag_msg`
//! (linux/inet_diag.h). The parser is pure, and does not panic on any bytes.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::model::{Endpoint, ListedSocket, NetworkNamespace, Socket, SocketState, Transport};

/// `AF_INET` and `AF_INET6`: each dump has the sockets of one address family.
pub(super) const FAMILIES: [u8; 2] = [2, 10];

/// The message type of requests and answers.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The flags of a request for a dump, `NLM_F_REQUEST` and `NLM_F_DUMP`.
const DUMP_FLAGS: u16 = 0x301;

const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
/// `1 << TCP_LISTEN`, `1 << TCP_ESTABLISHED`, `1 << TCP_CLOSE`. `TCP_CLOSE` is also the state of a
/// UDP socket without a peer.
const LISTENING_STATE: u32 = 1 << 10;
const ESTABLISHED_STATE: u32 = 1 << 1;
const CLOSED_STATE: u32 = 1 << 7;

/// The attributes of a socket that are read from an answer.
const INET_DIAG_SKV6ONLY: u16 = 11;
const INET_DIAG_CGROUP_ID: u16 = 21;

/// The sizes of `nlmsghdr`, `inet_diag_sockid` and `inet_diag_msg`, in bytes.
const HEADER_SIZE: usize = 16;
const SOCKET_ID_SIZE: usize = 48;
const MESSAGE_SIZE: usize = 72;

/// A part of the answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DumpPart {
    /// One socket of the dump.
    Socket(ListedSocket),
    /// The dump is complete: no message follows.
    End,
}

/// The request for the sockets of an address family.
pub(super) fn request(family: u8, state: SocketState) -> Vec<u8> {
    let (protocol, states) = match state {
        SocketState::Listening => (IPPROTO_TCP, LISTENING_STATE),
        SocketState::Established => (IPPROTO_TCP, ESTABLISHED_STATE),
        SocketState::Bound => (IPPROTO_UDP, CLOSED_STATE),
        SocketState::WithPort => (IPPROTO_UDP, CLOSED_STATE | ESTABLISHED_STATE),
    };
    let length = HEADER_SIZE + 8 + SOCKET_ID_SIZE;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or_default().to_ne_bytes());
    bytes.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&DUMP_FLAGS.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[family, protocol, 0, 0]);
    bytes.extend_from_slice(&states.to_ne_bytes());
    bytes.resize(length, 0);
    bytes
}

/// The netlink messages in a datagram that answers a request for the sockets of `namespace` in
/// `state`.
pub(super) fn dump_parts(
    datagram: &[u8],
    namespace: NetworkNamespace,
    state: SocketState,
) -> impl Iterator<Item = io::Result<DumpPart>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        loop {
            let length = bytes_at::<4>(rest, 0).map(u32::from_ne_bytes)? as usize;
            let kind = bytes_at::<2>(rest, 4).map(u16::from_ne_bytes)?;
            let message = rest.get(HEADER_SIZE..length)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            match kind {
                NLMSG_DONE => return Some(Ok(DumpPart::End)),
                NLMSG_ERROR => {
                    let error =
                        bytes_at::<4>(message, 0).map(i32::from_ne_bytes).unwrap_or_default();
                    return Some(match error {
                        0 => Ok(DumpPart::End),
                        error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
                    });
                }
                SOCK_DIAG_BY_FAMILY => {
                    if let Some(socket) = parse_socket(message, namespace, state) {
                        return Some(Ok(DumpPart::Socket(socket)));
                    }
                }
                _ => {}
            }
        }
    })
}

/// The socket that an `inet_diag_msg` describes; `None` for another address family or a message
/// that is too short.
fn parse_socket(
    message: &[u8],
    namespace: NetworkNamespace,
    state: SocketState,
) -> Option<ListedSocket> {
    let family = *message.first()?;
    let port = u16::from_be_bytes(bytes_at(message, 4)?);
    let address = match family {
        2 => IpAddr::V4(Ipv4Addr::from(bytes_at::<4>(message, 8)?)),
        10 => IpAddr::V6(Ipv6Addr::from(bytes_at::<16>(message, 8)?)),
        _ => return None,
    };
    // The cookie consists of two halves of 32 bits, the lower half first.
    let [low, high] = [44, 48].map(|at| bytes_at(message, at).map(u32::from_ne_bytes));
    let inode = u32::from_ne_bytes(bytes_at(message, 68)?);
    let (mut v6_only, mut cgroup) = (false, None);
    for (kind, value) in attributes(message.get(MESSAGE_SIZE..)?) {
        match kind {
            INET_DIAG_SKV6ONLY => v6_only = value.first().is_some_and(|only| *only != 0),
            INET_DIAG_CGROUP_ID => cgroup = bytes_at(value, 0).map(u64::from_ne_bytes),
            _ => {}
        }
    }
    let transport = match state {
        SocketState::Bound | SocketState::WithPort => Transport::Udp,
        SocketState::Listening | SocketState::Established => Transport::Tcp,
    };
    let socket = Socket {
        cookie: u64::from(high?) << 32 | u64::from(low?),
        inode: inode.into(),
        network_namespace: namespace,
        endpoint: Endpoint::new(transport, address, port, v6_only),
    };
    Some(ListedSocket { socket, cgroup })
}

/// Splits the attributes (`nlattr`). Each consists of a length that includes the header of four
/// bytes, a kind, a value and padding.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(bytes_at::<2>(rest, 0).map(u16::from_ne_bytes)?);
        let kind = bytes_at::<2>(rest, 2).map(u16::from_ne_bytes)?;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The `N` bytes at the offset `at`; `None` if there are fewer.
fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
