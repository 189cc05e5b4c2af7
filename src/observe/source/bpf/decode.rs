//! Decodes the bytes of one record. The decoder is pure, and does not panic on any bytes.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU64,
    sync::Arc,
};

use super::layout::{
    self, Connected, Exec, Exit, Fork, Header, OpenFile, Plain as _, Port, flag, header_flag, kind,
};
use crate::{
    model::{
        Args, Endpoint, FileId, Grade, Image, Lineage, NetworkNamespace, ProcessKey, Socket, Text,
        Transport, UnknownReason,
    },
    observe::record::{CallId, Provenance, Record, TargetId, What},
};

/// One decoded record of the ring, with the parts of its header that the reader needs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decoded {
    /// The target that the record belongs to.
    pub(super) target: TargetId,
    /// `CLOCK_MONOTONIC` at the event, in nanoseconds.
    pub(super) at_ns: u64,
    /// How many records of this target were lost before this record was made.
    pub(super) lost: u64,
    /// The length of the record in the ring, in bytes.
    pub(super) length: usize,
    /// The record itself.
    pub(super) record: Record,
}

/// Why a record cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// The record ends before its last field.
    #[error("the record is too short for its kind: {length} bytes")]
    Short {
        /// The length of the record in bytes.
        length: usize,
    },
    /// The length in the header is not the length of the record in the ring.
    #[error("the record has {length} bytes, but its header says {claimed}")]
    Length {
        /// The length of the record in bytes.
        length: usize,
        /// The length in the header in bytes.
        claimed: u32,
    },
    /// The kind is not a value of `enum lookout_kind`.
    #[error("the record has the unknown kind {kind}")]
    Kind {
        /// The number in the header.
        kind: u32,
    },
}

/// Decodes one record. `mounts` is the inode number of the shim's own mount namespace; without it,
/// the record of an exec does not show whether the process is a stage of the runtime (`runc init`).
pub(super) fn decode(bytes: &[u8], mounts: Option<u32>) -> Result<Decoded, Malformed> {
    let short = Malformed::Short { length: bytes.len() };
    let header = Header::from_bytes(bytes).ok_or(short)?;
    // The lengths of the strings in an exec are checked against `bytes`, so the two lengths must be
    // equal.
    if header.length as usize != bytes.len() {
        return Err(Malformed::Length { length: bytes.len(), claimed: header.length });
    }
    let target = TargetId(header.target);
    let Header { at_ns, lost, .. } = header;
    let decoded = |record| Decoded { target, at_ns, lost, length: bytes.len(), record };
    if matches!(header.kind, kind::LISTEN | kind::UNLISTEN) {
        return Port::from_bytes(bytes).map(|port| decoded(port_record(&port))).ok_or(short);
    }
    if header.kind == kind::CONNECTED {
        let record = Record::Connected { target, at_ns: header.at_ns };
        return Connected::from_bytes(bytes).map(|_| decoded(record)).ok_or(short);
    }
    let (grade, what) = match header.kind {
        kind::FORK => Fork::from_bytes(bytes)
            .map(|fork| (Grade::Exact, What::Fork(lineage(&header, &fork.lineage)))),
        kind::EXEC => decode_exec(bytes, mounts),
        kind::EXIT => Exit::from_bytes(bytes).map(|exit| (Grade::Exact, exit_of(&exit))),
        kind => return Err(Malformed::Kind { kind }),
    }
    .ok_or(short)?;
    // The start is converted to clock ticks, the unit of /proc, so that records and scans give a
    // process the same key.
    let key = key(&header);
    let provenance = Some(Provenance {
        start_ns: header.start_ns,
        call: (header.call != 0).then_some(CallId(header.call)),
        is_born: header.flags & header_flag::BORN != 0,
        is_inside: header.flags & header_flag::INSIDE != 0,
    });
    Ok(decoded(Record::Process { target, at_ns: header.at_ns, grade, key, provenance, what }))
}

/// The record of a socket that begins to listen, is bound, is closed or is released.
fn port_record(port: &Port) -> Record {
    let Port { header, cookie, inode, network_cookie, network_namespace, .. } = port;
    let [a, b, c, d, ..] = port.address;
    let address = match port.flags & flag::INET6 {
        0 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        _ => IpAddr::V6(Ipv6Addr::from(port.address)),
    };
    // The port is 0 if the kernel chooses it in listen(2), after this record was made.
    let number = u16::try_from(port.port).unwrap_or_default();
    let transport = if port.flags & flag::UDP == 0 { Transport::Tcp } else { Transport::Udp };
    let endpoint = Endpoint::new(transport, address, number, port.flags & flag::INET6_ONLY != 0);
    let network_namespace =
        NetworkNamespace { inode: *network_namespace, cookie: Some(*network_cookie) };
    let socket = Socket { cookie: *cookie, inode: *inode, network_namespace, endpoint };
    let (target, at_ns) = (TargetId(header.target), header.at_ns);
    // The record of a close names no process, because the kernel task that runs at that moment may
    // be unrelated to the socket.
    if header.kind == kind::UNLISTEN {
        return Record::Unlisten { target, at_ns, socket };
    }
    Record::Listen { target, at_ns, socket, by: key(header), vpid: pid(header.vpid) }
}

/// The lineage in a record: parent, grandparent, and the pid of the process in its own pid
/// namespace.
fn lineage(header: &Header, lineage: &layout::Lineage) -> Lineage {
    Lineage {
        vpid: pid(header.vpid),
        parent: pid(lineage.parent_tgid)
            .map(|pid| ProcessKey::from_boottime(pid, lineage.parent_start_ns)),
        grandparent_pid: pid(lineage.grandparent_tgid),
    }
}

/// The process that a record is about.
fn key(header: &Header) -> ProcessKey {
    // The kernel's pids are ints and never negative, so the cast changes no pid.
    ProcessKey::from_boottime(header.tgid.cast_signed(), header.start_ns)
}

/// A pid of a record. `None` for 0, which stands for a pid that the eBPF program did not read, and
/// for a number that cannot be a pid.
fn pid(number: u32) -> Option<i32> {
    i32::try_from(number).ok().filter(|pid| *pid > 0)
}

/// The exit of a process, with the files of its stdout and stderr.
fn exit_of(exit: &Exit) -> What {
    What::Exit {
        wait_status: Some(exit.wait_status),
        oom_killed: exit.flags & flag::OOM_KILLED != 0,
        outputs: exit.outputs.each_ref().map(file_id),
    }
}

/// The identity of an open file; `None` if the descriptor was closed.
fn file_id(file: &OpenFile) -> Option<FileId> {
    (*file != OpenFile::default()).then_some(FileId { device: file.device, inode: file.inode })
}

/// Decodes an exec with its three strings. `None` if the record is too short for them.
fn decode_exec(bytes: &[u8], mounts: Option<u32>) -> Option<(Grade, What)> {
    // The lengths are read from the record, so each split is checked.
    let mut rest = bytes;
    let exec = Exec::take(&mut rest)?;
    let args = rest.split_off(..exec.args_length as usize)?;
    let executable = rest.split_off(..exec.executable_length as usize)?;
    let directory = rest.split_off(..exec.directory_length as usize)?;
    let is_whole = |cut: u32| exec.flags & cut == 0;
    // An image has one reason for all parts that are missing. A fault of argv is the more specific
    // reason.
    let unknown = if !is_whole(flag::ARGS_FAULTED) {
        Some(UnknownReason::Faulted)
    } else if !is_whole(flag::EXECUTABLE_CUT | flag::DIRECTORY_CUT) {
        Some(UnknownReason::NotSeen)
    } else {
        None
    };
    let image = Image {
        // A path is reported whole or not at all, because a cut path lacks its first components.
        executable: is_whole(flag::EXECUTABLE_CUT).then(|| path(executable)),
        executable_deleted: exec.flags & flag::EXECUTABLE_DELETED != 0,
        args: is_whole(flag::ARGS_FAULTED).then(|| Args {
            bytes: args.into(),
            total_bytes: exec.args_total,
            count: exec.args_count,
            redacted: false,
        }),
        working_directory: is_whole(flag::DIRECTORY_CUT).then(|| path(directory)),
        comm: exec.comm.split(|byte| *byte == 0).next().map(Into::into),
        uid: Some(exec.uid),
        gid: Some(exec.gid),
        stack: NonZeroU64::new(exec.stack),
        charge: None,
        unknown,
    };
    let what = What::Exec {
        lineage: lineage(&exec.header, &exec.lineage),
        image: Arc::new(image),
        // Only a nested cgroup is reported, because the target's own cgroup is known.
        cgroup: Some(exec.cgroup).filter(|own| *own != exec.header.target),
        in_host_mounts: mounts.map(|own| own == exec.mount_namespace),
    };
    Some((if unknown.is_none() { Grade::Exact } else { Grade::Partial }, what))
}

/// Builds a path from its components, each ended by a NUL. They are in reverse order, because the
/// eBPF programs walk from the file up to the root.
fn path(components: &[u8]) -> Text {
    // The root directory has no components.
    if components.is_empty() {
        return b"/"[..].into();
    }
    let components = components.strip_suffix(&[0]).unwrap_or(components);
    let mut path = Vec::with_capacity(components.len() + 1);
    for component in components.rsplit(|byte| *byte == 0) {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    path.into_boxed_slice().into()
}

#[cfg(test)]
mod tests;
