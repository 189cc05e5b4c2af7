//! From the bytes of one record to what it says. Pure; any bytes will do, none can panic it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::layout::{
    self, Connected, Exec, Exit, Fork, Header, OpenFile, Plain as _, Port, flag, kind,
};
use crate::{
    model::{
        Args, Endpoint, FileId, Grade, Image, Lineage, ProcessKey, Socket, Transport, Unknown,
    },
    observe::record::{Record, TargetId, What},
};

/// One record of the ring.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decoded {
    /// Attribution.
    pub(super) target: TargetId,
    /// When, `CLOCK_MONOTONIC` in nanoseconds.
    pub(super) at_ns: u64,
    /// How many records of this target had been lost by then.
    pub(super) lost: u64,
    /// What it says.
    pub(super) record: Record,
}

/// A record that says something this build does not understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// It ends too early.
    #[error("a record of {length} bytes is too short")]
    Short {
        /// In bytes.
        length: usize,
    },
    /// Its own length is not that of what the ring gave.
    #[error("a record of {length} bytes says it has {said}")]
    Length {
        /// In bytes.
        length: usize,
        /// In bytes.
        said: u32,
    },
    /// Its kind is none of ours.
    #[error("records of kind {kind} are unknown")]
    Kind {
        /// What it said.
        kind: u32,
    },
}

/// Reads one record. `mounts` is the inode number of the shim's own mount namespace.
pub(super) fn decode(bytes: &[u8], mounts: Option<u32>) -> Result<Decoded, Malformed> {
    let short = Malformed::Short { length: bytes.len() };
    let header = Header::from_bytes(bytes).ok_or(short)?;
    if header.length as usize != bytes.len() {
        return Err(Malformed::Length { length: bytes.len(), said: header.length });
    }
    let target = TargetId(header.target);
    let decoded = |record| Decoded { target, at_ns: header.at_ns, lost: header.lost, record };
    if matches!(header.kind, kind::LISTEN | kind::UNLISTEN) {
        return Port::from_bytes(bytes).map(|port| decoded(listening(&port))).ok_or(short);
    }
    if header.kind == kind::CONNECTED {
        let record = Record::Connected { target, at_ns: header.at_ns };
        return Connected::from_bytes(bytes).map(|_| decoded(record)).ok_or(short);
    }
    let (grade, what) = match header.kind {
        kind::FORK => Fork::from_bytes(bytes)
            .map(|fork| (Grade::Exact, What::Fork(lineage(&header, &fork.lineage)))),
        kind::EXEC => exec(bytes, mounts),
        kind::EXIT => Exit::from_bytes(bytes).map(|exit| (Grade::Exact, exited(&exit))),
        kind => return Err(Malformed::Kind { kind }),
    }
    .ok_or(short)?;
    let key = ProcessKey::from_boottime(pid(header.tgid), header.start_ns);
    Ok(decoded(Record::Process { target, at_ns: header.at_ns, grade, key, what }))
}

fn listening(port: &Port) -> Record {
    let Port { header, cookie, inode, network_namespace, .. } = port;
    let [a, b, c, d, ..] = port.address;
    let address = match port.flags & flag::INET6 {
        0 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        _ => IpAddr::V6(Ipv6Addr::from(port.address)),
    };
    let number = u16::try_from(port.port).unwrap_or_default();
    let transport = if port.flags & flag::UDP == 0 { Transport::Tcp } else { Transport::Udp };
    let endpoint = Endpoint::new(transport, address, number, port.flags & flag::INET6_ONLY != 0);
    let socket =
        Socket { cookie: *cookie, inode: *inode, network_namespace: *network_namespace, endpoint };
    let (target, at_ns) = (TargetId(header.target), header.at_ns);
    if header.kind == kind::UNLISTEN {
        return Record::Unlisten { target, at_ns, socket };
    }
    let by = ProcessKey::from_boottime(pid(header.tgid), header.start_ns);
    Record::Listen {
        target,
        at_ns,
        socket,
        by,
        vpid: Some(pid(header.vpid)).filter(|vpid| *vpid > 0),
    }
}

fn lineage(header: &Header, lineage: &layout::Lineage) -> Lineage {
    let parent = ProcessKey::from_boottime(pid(lineage.parent_tgid), lineage.parent_start_ns);
    Lineage {
        vpid: Some(pid(header.vpid)).filter(|vpid| *vpid > 0),
        parent_pid: parent.pid,
        parent_start_ticks: parent.start_ticks,
        grandparent_pid: pid(lineage.grandparent_tgid),
    }
}

/// A pid as the kernel has it is an int that is never negative.
fn pid(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(0)
}

fn exited(exit: &Exit) -> What {
    What::Exit {
        wait_status: Some(exit.wait_status),
        oom_killed: exit.flags & flag::OOM_KILLED != 0,
        outputs: exit.outputs.each_ref().map(file_id),
    }
}

fn file_id(file: &OpenFile) -> Option<FileId> {
    (*file != OpenFile::default()).then_some(FileId { device: file.device, inode: file.inode })
}

fn exec(bytes: &[u8], mounts: Option<u32>) -> Option<(Grade, What)> {
    let mut rest = bytes;
    let exec = Exec::take(&mut rest)?;
    let args = rest.split_off(..exec.args_length as usize)?;
    let executable = rest.split_off(..exec.executable_length as usize)?;
    let directory = rest.split_off(..exec.directory_length as usize)?;
    let whole = |cut: u32| exec.flags & cut == 0;
    let unknown = if !whole(flag::ARGS_FAULTED) {
        Some(Unknown::Faulted)
    } else if !whole(flag::EXECUTABLE_CUT | flag::DIRECTORY_CUT) {
        Some(Unknown::NotSeen)
    } else {
        None
    };
    let image = Image {
        executable: whole(flag::EXECUTABLE_CUT).then(|| path(executable)),
        args: whole(flag::ARGS_FAULTED).then(|| Args {
            bytes: args.into(),
            total_bytes: exec.args_total,
            count: exec.args_count,
            redacted: false,
        }),
        working_directory: whole(flag::DIRECTORY_CUT).then(|| path(directory)),
        comm: exec.comm.split(|byte| *byte == 0).next().map(Into::into),
        uid: Some(exec.uid),
        gid: Some(exec.gid),
        unknown,
    };
    let what = What::Exec {
        lineage: lineage(&exec.header, &exec.lineage),
        image: Arc::new(image),
        cgroup: Some(exec.cgroup).filter(|own| *own != exec.header.target),
        in_host_mounts: mounts.map(|own| own == exec.mount_namespace),
    };
    Some((if unknown.is_none() { Grade::Exact } else { Grade::Partial }, what))
}

/// A path from its components, the last one first, each ended by a NUL.
fn path(components: &[u8]) -> Box<[u8]> {
    if components.is_empty() {
        return (*b"/").into();
    }
    let components = components.strip_suffix(&[0]).unwrap_or(components);
    let mut path = Vec::with_capacity(components.len() + 1);
    for component in components.rsplit(|byte| *byte == 0) {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    path.into()
}

#[cfg(test)]
mod tests;
