//! The capabilities of this process (capabilities(7)).

use std::{io, ops::BitOr};

/// A set of capabilities: bit N is the capability with the number N (linux/capability.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// No capability.
    pub const NONE: Self = Self(0);
    /// `CAP_DAC_READ_SEARCH`: read files of other users, such as in `/proc`.
    pub const DAC_READ_SEARCH: Self = Self(1 << 2);
    /// `CAP_KILL`: signal processes of other users.
    pub const KILL: Self = Self(1 << 5);
    /// `CAP_NET_ADMIN`: listen to the proc connector, attach eBPF programs to cgroups.
    pub const NET_ADMIN: Self = Self(1 << 12);
    /// `CAP_SYS_PTRACE`: read what `/proc` has about processes with other credentials.
    pub const SYS_PTRACE: Self = Self(1 << 19);
    /// `CAP_SYS_ADMIN`. On Linux before 5.8 it stands for [`BPF`](Self::BPF) and
    /// [`PERFMON`](Self::PERFMON) too.
    pub const SYS_ADMIN: Self = Self(1 << 21);
    /// `CAP_SYS_RESOURCE`: on Linux before 5.11, eBPF maps count against a limit of locked memory.
    pub const SYS_RESOURCE: Self = Self(1 << 24);
    /// `CAP_PERFMON` (Linux 5.8): attach eBPF programs to tracepoints.
    pub const PERFMON: Self = Self(1 << 38);
    /// `CAP_BPF` (Linux 5.8): load eBPF programs.
    pub const BPF: Self = Self(1 << 39);

    /// Those of `self` that are also in `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn has(self, number: u32) -> bool {
        self.0 >> number & 1 == 1
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The capabilities that the calling thread may use.
///
/// # Errors
///
/// The error of capget(2).
pub fn permitted() -> io::Result<Capabilities> {
    get().map(|(sets, _)| sets.permitted)
}

/// Gives up all capabilities of the calling thread except `kept`: for the thread, for the threads
/// that it makes later, and for every program that any of them would execute. A capability that
/// the thread does not have is not gained.
///
/// # Errors
///
/// The error of capset(2) or prctl(2).
pub fn keep_only(kept: Capabilities) -> io::Result<()> {
    // The bounding set comes first, because changing it needs CAP_SETPCAP. Without that capability
    // it stays: a process that has no_new_privs set gains nothing from it.
    for number in (0..u64::BITS).filter(|number| !kept.has(*number)) {
        match prctl(PR_CAPBSET_READ, number) {
            Ok(1) => match prctl(PR_CAPBSET_DROP, number) {
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => break,
                result => result.map(drop)?,
            },
            Ok(_) => {}
            // There is no capability with this number, so there are no further ones.
            Err(_) => break,
        }
    }
    let (now, mut sets) = get()?;
    let wanted = Sets {
        effective: now.effective.and(kept),
        permitted: now.permitted.and(kept),
        inheritable: Capabilities::NONE,
    };
    if wanted == now {
        // A filter of systemd refuses capset(2).
        return Ok(());
    }
    for (half, data) in sets.iter_mut().enumerate() {
        #[expect(clippy::cast_possible_truncation, reason = "each half has 32 of the 64 bits")]
        let part = |set: Capabilities| (set.0 >> (32 * half)) as u32;
        *data = Data {
            effective: part(wanted.effective),
            permitted: part(wanted.permitted),
            inheritable: part(wanted.inheritable),
        };
    }
    // The kernel removes capabilities that are no longer permitted from the ambient set too.
    let header = Header::THIS_THREAD;
    // SAFETY: the pointers are to a header and to the two structs that its version requires.
    checked(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) }).map(drop)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sets {
    effective: Capabilities,
    permitted: Capabilities,
    inheritable: Capabilities,
}

/// `struct __user_cap_header_struct` of linux/capability.h.
#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct` of linux/capability.h: 32 bits of each set.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

impl Header {
    /// `_LINUX_CAPABILITY_VERSION_3`, for the calling thread.
    const THIS_THREAD: Self = Self { version: 0x2008_0522, pid: 0 };
}

// Values of linux/prctl.h.
const PR_CAPBSET_READ: libc::c_int = 23;
const PR_CAPBSET_DROP: libc::c_int = 24;

fn get() -> io::Result<(Sets, [Data; 2])> {
    let mut data = [Data::default(); 2];
    let mut header = Header::THIS_THREAD;
    // SAFETY: the pointers are to a header and to the two structs that its version requires.
    checked(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let whole = |part: fn(&Data) -> u32| {
        Capabilities(u64::from(part(&data[0])) | u64::from(part(&data[1])) << 32)
    };
    let sets = Sets {
        effective: whole(|data| data.effective),
        permitted: whole(|data| data.permitted),
        inheritable: whole(|data| data.inheritable),
    };
    Ok((sets, data))
}

fn prctl(option: libc::c_int, number: u32) -> io::Result<libc::c_long> {
    // SAFETY: these options of prctl take a number.
    checked(unsafe { libc::prctl(option, libc::c_ulong::from(number), 0, 0, 0) }.into())
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}
