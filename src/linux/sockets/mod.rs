//! The kernel's own list of sockets: sock_diag(7).
//!
//! A dump is a snapshot. Dumps are made at the beginning, after a loss, and to find port numbers
//! that the kernel chose after it had reported the socket. If no source reports sockets, dumps are
//! also made at intervals and compared. One dump takes some tens of microseconds and grows only
//! with the number of listening sockets in its network namespace.

mod destroyed;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod message;

use std::{fs::File, io, os::unix::fs::MetadataExt as _, thread};

use netlink_sys::{Socket as Netlink, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use nix::sched::{CloneFlags, setns};

pub use self::destroyed::DestroyedListeners;
use self::message::{DumpPart, FAMILIES, dump_parts, request};
use super::namespace::{self, Kind, own_inode};
use crate::{
    model::{ListedSocket, NetworkNamespace, SocketState},
    sys::socket::namespace_cookie,
};

/// The most bytes of a dump that one receive returns: the kernel fills at most 32 KiB
/// (`netlink_dump`, net/netlink/af_netlink.c).
const PART_SIZE: usize = 32 << 10;

/// The most parts of one dump. Without this limit, a namespace in which sockets are created as fast
/// as they are listed could keep the caller busy for ever.
const PARTS_MAX: usize = 4096;

/// Lists the sockets of the network namespace `inode`, in which the process `pid` is, and
/// identifies the namespace.
///
/// If that is not this process's own namespace, a temporary thread enters it. setns(2) changes the
/// calling thread, and a netlink socket that is kept open in the namespace would keep the namespace
/// alive.
///
/// # Errors
///
/// The error of entering the namespace or of the dump; `NotFound` if the process is in another
/// namespace by now.
pub fn list(
    pid: i32,
    inode: u32,
    state: SocketState,
) -> io::Result<(NetworkNamespace, Vec<ListedSocket>)> {
    in_namespace(pid, inode, move || dump(inode, state))
}

/// Calls `act` on a thread that is in the network namespace `inode`, in which the process `pid` is.
fn in_namespace<T: Send + 'static>(
    pid: i32,
    inode: u32,
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if own_inode(Kind::Network)? == inode {
        return act();
    }
    let namespace = File::open(namespace::path(pid, Kind::Network))?;
    // The inode of the open file is compared, and not that of the path: the process may have
    // changed its namespace, or its pid may have been reused.
    if namespace.metadata()?.ino() != u64::from(inode) {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the process is in another network namespace",
        ));
    }
    let inside = thread::Builder::new().name("ports".into()).stack_size(128 << 10);
    let inside = inside.spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        act()
    })?;
    inside.join().map_err(|_| io::Error::other("the thread in the network namespace panicked"))?
}

/// The inode number of the network namespace of a process.
///
/// # Errors
///
/// As [`namespace::inode`].
pub fn namespace_of(pid: i32) -> io::Result<u32> {
    namespace::inode(pid, Kind::Network)
}

/// The cookie of the network namespace `inode`, in which the process `pid` is. Unlike the inode
/// number, the kernel never reuses it (`SO_NETNS_COOKIE`, since Linux 5.14).
///
/// # Errors
///
/// As [`list`].
pub fn cookie_of(pid: i32, inode: u32) -> io::Result<u64> {
    in_namespace(pid, inode, || namespace_cookie(Netlink::new(NETLINK_SOCK_DIAG)?))
}

/// The inode number of this process's own network namespace.
///
/// # Errors
///
/// As [`namespace::own_inode`].
pub fn own_namespace() -> io::Result<u32> {
    own_inode(Kind::Network)
}

/// Requests and reads the sockets of the calling thread's network namespace, which has the inode
/// number `inode`.
fn dump(inode: u32, state: SocketState) -> io::Result<(NetworkNamespace, Vec<ListedSocket>)> {
    let mut socket = Netlink::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    let cookie = match namespace_cookie(&socket) {
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOPROTOOPT) => None,
        cookie => Some(cookie?),
    };
    let namespace = NetworkNamespace { inode, cookie };
    let mut found = Vec::new();
    for family in FAMILIES {
        socket.send_to(&request(family, state), &SocketAddr::new(0, 0), 0)?;
        read_dump(&socket, namespace, state, &mut found)?;
    }
    Ok((namespace, found))
}

/// Reads one dump to its end.
fn read_dump(
    socket: &Netlink,
    namespace: NetworkNamespace,
    state: SocketState,
    found: &mut Vec<ListedSocket>,
) -> io::Result<()> {
    let mut space = vec![0_u8; PART_SIZE];
    for _ in 0..PARTS_MAX {
        let mut buffer = &mut space[..];
        // The kernel makes the dump in the call that reads it, so this does not block.
        let (length, from) = socket.recv_from(&mut buffer, 0)?;
        // Only the kernel has port 0. A message from another port was sent by a process.
        if from.port_number() != 0 {
            continue;
        }
        for part in dump_parts(&space[..length.min(PART_SIZE)], namespace, state) {
            match part? {
                DumpPart::Socket(socket) => found.push(socket),
                DumpPart::End => return Ok(()),
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::FileTooLarge, "the network namespace has too many sockets"))
}

#[cfg(test)]
mod tests;
