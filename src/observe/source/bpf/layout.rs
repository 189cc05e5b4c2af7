//! The structures and constants of `bpf/record.h` in Rust. The header documents each field. A test
//! compares this module with the header field by field.

/// A value of a fixed size without padding, in the byte order of this machine.
///
/// Fields are copied one by one instead of casting the bytes, so no `unsafe` is needed and the
/// alignment of the bytes does not matter.
pub(super) trait Plain: Sized {
    /// The size in bytes.
    const SIZE: usize;

    /// Takes a value from the front of `bytes`; `None` if `bytes` is too short.
    fn take(bytes: &mut &[u8]) -> Option<Self>;

    /// Appends the bytes of the value.
    fn put(&self, bytes: &mut Vec<u8>);

    /// Decodes a value from the front of `bytes`, which may be longer; `None` if `bytes` is too
    /// short.
    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        Self::take(&mut bytes)
    }

    /// The bytes of the value, as a key or value of a map.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::SIZE);
        self.put(&mut bytes);
        bytes
    }
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Plain for $type {
            const SIZE: usize = size_of::<$type>();

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let (first, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                // Native byte order, because the kernel of this machine has written the bytes.
                Some(Self::from_ne_bytes(*first))
            }

            fn put(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_ne_bytes());
            }
        }
    )*};
}
number!(u32, u64);

impl Plain for [u8; 16] {
    const SIZE: usize = 16;

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*first)
    }

    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self);
    }
}

impl Plain for [OpenFile; 2] {
    const SIZE: usize = 2 * OpenFile::SIZE;

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        Some([OpenFile::take(bytes)?, OpenFile::take(bytes)?])
    }

    fn put(&self, bytes: &mut Vec<u8>) {
        self.iter().for_each(|file| file.put(bytes));
    }
}

/// Defines the Rust form of a structure of the header, from its name in C and its fields in order.
macro_rules! mirror {
    ($(#[doc = $doc:literal])* $name:ident is $c:literal { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub(super) struct $name {
            $(pub(super) $field: $type,)*
        }

        impl Plain for $name {
            const SIZE: usize = 0 $(+ <$type as Plain>::SIZE)*;

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: Plain::take(bytes)?,)* })
            }

            fn put(&self, bytes: &mut Vec<u8>) {
                $(self.$field.put(bytes);)*
            }
        }

        #[cfg(test)]
        impl $name {
            /// The name in C, and the name and size in bytes of each field.
            pub(super) const MIRRORED: (&str, &[(&str, usize)]) =
                ($c, &[$((stringify!($field), <$type as Plain>::SIZE),)*]);
        }
    };
}

mirror! {
    /// The first part of every record.
    Header is "lookout_header" {
        kind: u32, length: u32, target: u64, at_ns: u64, start_ns: u64, lost: u64, tgid: u32,
        vpid: u32, call: u32, flags: u32,
    }
}

mirror! {
    /// The forker and the grandparent of a process.
    Lineage is "lookout_lineage" { parent_start_ns: u64, parent_tgid: u32, grandparent_tgid: u32 }
}

mirror! {
    /// A thread group was created.
    Fork is "lookout_fork" { header: Header, lineage: Lineage }
}

mirror! {
    /// A process runs a new image. The arguments, the executable and the working directory follow
    /// this structure.
    Exec is "lookout_exec" {
        header: Header, lineage: Lineage, cgroup: u64, args_total: u64, stack: u64,
        args_count: u32,
        mount_namespace: u32, uid: u32, gid: u32, args_length: u32, executable_length: u32,
        directory_length: u32, flags: u32, comm: [u8; 16],
    }
}

mirror! {
    /// An open file; both fields are 0 if the descriptor is closed.
    OpenFile is "lookout_file" { device: u64, inode: u64 }
}

mirror! {
    /// The last thread of a group ended.
    Exit is "lookout_exit" { header: Header, wait_status: u32, flags: u32, outputs: [OpenFile; 2] }
}

mirror! {
    /// A TCP socket begins or stops listening, or a UDP socket is bound or released.
    Port is "lookout_port" {
        header: Header, cookie: u64, inode: u64, network_cookie: u64, network_namespace: u32,
        port: u32,
        address: [u8; 16], flags: u32, padding: u32,
    }
}

mirror! {
    /// A connection of a target was established, after a shim had requested this record.
    Connected is "lookout_connected" { header: Header }
}

mirror! {
    /// The count of a target's connections.
    ConnectionsValue is "lookout_connections" { open: u64, changed_ns: u64 }
}

mirror! {
    /// The slot that receives the records of one target, and the counts of these records.
    TargetValue is "lookout_target" {
        slot: u32, pid_namespace: u32, id: u64, seen: u64, lost: u64, members: u32,
        listeners: u32, is_tree: u32, refused: u32,
    }
}

mirror! {
    /// The target that a socket belongs to.
    Listener is "lookout_listener" { target: u64, is_counted: u32, padding: u32 }
}

mirror! {
    /// The target that a thread group stays with.
    Member is "lookout_member" {
        start_ns: u64, target: u64, call: u64, forker_start_ns: u64, forker_tgid: u32, flags: u32,
    }
}

mirror! {
    /// A call of the OCI runtime.
    CallContext is "lookout_runtime_call" { id: u64, target: u64 }
}

mirror! {
    /// The process that owns a slot.
    Owner is "lookout_owner" { pid: u32, pid_namespace: u32, start_ticks: u64 }
}

mirror! {
    /// The settings of the whole node.
    Config is "lookout_config" { args_max: u32, levels: u32 }
}

/// The kinds of records: `enum lookout_kind`.
pub(super) mod kind {
    pub(in super::super) const FORK: u32 = 1;
    pub(in super::super) const EXEC: u32 = 2;
    pub(in super::super) const EXIT: u32 = 3;
    pub(in super::super) const LISTEN: u32 = 4;
    pub(in super::super) const UNLISTEN: u32 = 5;
    pub(in super::super) const CONNECTED: u32 = 6;
}

/// The bits of the field `flags` of a record: `enum lookout_flag`.
pub(super) mod flag {
    pub(in super::super) const ARGS_FAULTED: u32 = 1;
    pub(in super::super) const EXECUTABLE_CUT: u32 = 2;
    pub(in super::super) const DIRECTORY_CUT: u32 = 4;
    pub(in super::super) const OOM_KILLED: u32 = 8;
    pub(in super::super) const INET6: u32 = 16;
    pub(in super::super) const INET6_ONLY: u32 = 32;
    pub(in super::super) const UDP: u32 = 64;
    pub(in super::super) const EXECUTABLE_DELETED: u32 = 128;
}

/// The bits of [`Header::flags`]: `enum lookout_header_flag`.
pub(super) mod header_flag {
    pub(in super::super) const BORN: u32 = 1;
    pub(in super::super) const INSIDE: u32 = 2;
}

/// The most rings, and therefore shims, on one node: `LOOKOUT_SLOTS`.
pub(super) const SLOTS: u32 = 4096;

/// The bits of [`Member::flags`]: `enum lookout_member_flag`.
pub(super) mod member_flag {
    pub(in super::super) const IN_ENTRIES: u32 = 1;
    #[cfg(test)]
    pub(in super::super) const IN_TARGET: u32 = 2;
    pub(in super::super) const SPAWNS: u32 = 4;
    #[cfg(test)]
    pub(in super::super) const BORN_MEMBER: u32 = 8;
}

/// The most remembered sockets of all targets together: `LOOKOUT_LISTENERS`.
#[cfg(test)]
pub(super) const LISTENERS: u32 = 65536;

/// The key of the map `entries` for the members: `LOOKOUT_SHARED_MEMBERS`.
#[cfg(test)]
pub(super) const SHARED_MEMBERS: u32 = 0;

/// The key of the map `entries` for the remembered sockets: `LOOKOUT_SHARED_LISTENERS`.
#[cfg(test)]
pub(super) const SHARED_LISTENERS: u32 = 1;

/// The most members of all targets together: `LOOKOUT_MEMBERS`.
#[cfg(test)]
pub(super) const MEMBERS: u32 = 131_072;

/// The most entries of each map of targets: `LOOKOUT_TARGETS`.
pub(super) const TARGETS: u32 = 65536;

/// The most bytes of argv in one exec record: `LOOKOUT_ARGS_MAX`.
pub(super) const ARGS_MAX: u32 = 16384;

/// The most bytes of one path: `LOOKOUT_PATH_MAX`.
pub(super) const PATH_MAX: u32 = 4096;

/// The time after a wake-up in which further process records do not wake the reader, in
/// nanoseconds: `LOOKOUT_COLLECT_NS`.
pub(super) const COLLECT_NS: u32 = 1_000_000;
