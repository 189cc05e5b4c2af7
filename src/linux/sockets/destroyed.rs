//! Notifications of destroyed listening sockets: the multicast groups of sock_diag(7).

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

use super::in_namespace;
use crate::sys::socket_filter::{self, Instruction};

/// The multicast groups `SKNLGRP_INET_TCP_DESTROY` and `SKNLGRP_INET6_TCP_DESTROY`, as bits.
const DESTROY_GROUPS: u32 = 1 << 0 | 1 << 2;

/// The offset of the remote port in a notification: `nlmsghdr` (16 bytes), then the first fields of
/// `inet_diag_msg` (4), then the first field of its id (2).
const REMOTE_PORT_OFFSET: u32 = 16 + 4 + 2;

/// Receives a notification for each listening socket that is destroyed in a network namespace. The
/// netlink socket keeps that namespace alive.
#[derive(Debug)]
pub struct DestroyedListeners(Socket);

impl DestroyedListeners {
    /// Subscribes in the network namespace `inode`, in which the process `pid` is.
    ///
    /// # Errors
    ///
    /// The error of entering the namespace or of subscribing: `EPERM` without `CAP_NET_ADMIN`.
    pub fn listen(pid: i32, inode: u32) -> io::Result<Self> {
        in_namespace(pid, inode, || {
            let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
            socket.set_non_blocking(true)?;
            // The filter is attached before the subscription, because without it the end of each
            // connection would wake the thread.
            socket_filter::attach(&socket, &ACCEPT_LISTENERS)?;
            socket.bind(&SocketAddr::new(0, DESTROY_GROUPS))?;
            Ok(Self(socket))
        })
    }

    /// A descriptor that is readable when a listener was destroyed.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Whether any listener was destroyed since the last call.
    #[must_use]
    pub fn take(&self) -> bool {
        let (mut received, mut space) = (false, [0_u8; 512]);
        loop {
            let mut buffer = &mut space[..];
            match self.0.recv(&mut buffer, 0) {
                // ENOBUFS means that the kernel has dropped notifications, so there was at least
                // one.
                Ok(_) => received = true,
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => received = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return received,
            }
        }
    }
}

/// A filter that accepts only notifications about sockets without a remote port, which are
/// listeners: `ldh [REMOTE_PORT_OFFSET]; jeq #0; ret all; ret 0` (linux/filter.h).
const ACCEPT_LISTENERS: [Instruction; 4] =
    [(0x28, 0, 0, REMOTE_PORT_OFFSET), (0x15, 0, 1, 0), (0x06, 0, 0, u32::MAX), (0x06, 0, 0, 0)];
