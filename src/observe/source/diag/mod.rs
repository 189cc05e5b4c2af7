//! The kernel's own list of listening sockets: `sock_diag(7)`.
//!
//! A snapshot, for the beginning, for what was lost, and for numbers that the kernel chose after it
//! had told of the socket; where there is nothing better, also to be compared with the one before.
//! One dump takes some tens of microseconds and grows with the listening sockets of the namespace
//! only.

mod destroyed;
mod message;

use std::{fs::File, io, os::unix::fs::MetadataExt as _, thread};

use netlink_sys::{Socket as Netlink, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use nix::sched::{CloneFlags, setns};

pub(in crate::observe) use self::destroyed::Destroyed;
use self::message::{FAMILIES, Part, parts, request};
pub(in crate::observe) use crate::observe::ports::{Found, State};

/// The part of a dump that is read at once: the kernel fills at most 32 KiB (netlink_dump,
/// af_netlink.c).
const PART: usize = 32 << 10;

/// The most parts of one dump: a namespace with more listeners than that is not believed to end.
const PARTS_MAX: usize = 4096;

/// The sockets of a kind, of the network namespace `inode` in which the process `pid` is.
///
/// Where that is not this process's own, a thread enters it, asks, and ends: nothing keeps the
/// namespace alive that would have gone without.
///
/// # Errors
///
/// What entering or asking answered; `NotFound` where the process is in another namespace by now.
pub(in crate::observe) fn sockets(pid: i32, inode: u32, state: State) -> io::Result<Vec<Found>> {
    inside(pid, inode, move || dump(inode, state))
}

/// Does something in the network namespace `inode`, in which the process `pid` is.
fn inside<T: Send + 'static>(
    pid: i32,
    inode: u32,
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if own_namespace()? == inode {
        return act();
    }
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
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
    inside.join().map_err(|_| io::Error::other("the thread that asked has failed"))?
}

/// The inode of the network namespace of a process.
pub(in crate::observe) fn namespace_of(pid: i32) -> io::Result<u32> {
    inode(&format!("/proc/{pid}/ns/net"))
}

/// The inode of this process's own network namespace.
pub(in crate::observe) fn own_namespace() -> io::Result<u32> {
    inode("/proc/self/ns/net")
}

fn inode(path: &str) -> io::Result<u32> {
    u32::try_from(std::fs::metadata(path)?.ino()).map_err(io::Error::other)
}

fn dump(namespace: u32, state: State) -> io::Result<Vec<Found>> {
    let mut socket = Netlink::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    let mut found = Vec::new();
    for family in FAMILIES {
        socket.send_to(&request(family, state), &SocketAddr::new(0, 0), 0)?;
        read(&socket, namespace, state, &mut found)?;
    }
    Ok(found)
}

/// Reads one dump to its end.
fn read(socket: &Netlink, namespace: u32, state: State, found: &mut Vec<Found>) -> io::Result<()> {
    let mut space = vec![0_u8; PART];
    for _ in 0..PARTS_MAX {
        let mut buffer = &mut space[..];
        // A dump is made in the call that reads it, so this does not wait.
        let (length, from) = socket.recv_from(&mut buffer, 0)?;
        if from.port_number() != 0 {
            continue;
        }
        for part in parts(&space[..length.min(PART)], namespace, state) {
            match part? {
                Part::Found(one) => found.push(one),
                Part::End => return Ok(()),
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::FileTooLarge, "the namespace has too many sockets"))
}

#[cfg(test)]
mod tests;
