//! Loads the eBPF programs, once for each node. This code runs in a separate process that ends
//! right afterwards.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::DirBuilderExt as _},
    path::Path,
};

use libbpf_rs::{Link, MapCore as _, MapFlags, Object, ObjectBuilder, PrintLevel};

use super::{
    layout::{Config, Plain as _},
    pins::{LINKS, MARK_SPAWNER, PinDirectory, UDP_LINKS, unified_root},
    refused, ring,
};
use crate::{linux::process::Status, model::chain, observe::source::SourceError};

/// The most bytes of argv in an exec record, unless a shim requests more.
const ARGS_MAX_DEFAULT: u32 = 4096;

/// The BTF of the running kernel. libbpf needs it to relocate the programs (CO-RE).
pub(super) const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

/// `CAP_SYS_ADMIN` as a bit of `CapEff`. It includes `CAP_PERFMON` and `CAP_BPF`.
const SYS_ADMIN: u64 = 1 << 21;
/// `CAP_PERFMON` and `CAP_BPF` as bits of `CapEff`.
const PERFMON_AND_BPF: u64 = (1 << 38) | (1 << 39);

/// The compiled `bpf/` with the alignment that libelf requires.
#[repr(align(8))]
struct Aligned<T: ?Sized>(T);
static OBJECT: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/lookout.bpf.o")));

/// The compiled `bpf/`, an ELF object with BTF.
pub(super) fn object() -> &'static [u8] {
    &OBJECT.0
}

/// Loads, attaches and pins the set of programs and maps of this build under `bpffs`. Does nothing
/// if the set is already pinned.
///
/// If the process is killed at any step, it leaves at most a directory that the next call removes.
/// Takes 25–50 ms, and some megabytes of memory that libbpf keeps, so a long-lived process should
/// not call it.
///
/// # Errors
///
/// [`SourceError`] if the kernel refuses a step. [`probe`] finds the usual reasons.
pub fn load(bpffs: &Path) -> Result<(), SourceError> {
    load_with(bpffs, unified_root().as_deref())
}

/// Like [`load`], with the root directory of the unified hierarchy. If `unified` is `None`, the UDP
/// programs are not loaded.
pub(super) fn load_with(bpffs: &Path, unified: Option<&Path>) -> Result<(), SourceError> {
    let directory = PinDirectory::new(bpffs);
    directory.create()?;
    let _lock = directory.lock().map_err(refused("lock the pin directory"))?;
    // Checked under the lock, because another loader may have finished before this one got the
    // lock.
    if directory.set_directory().try_exists().map_err(refused("read the pin directory"))? {
        return Ok(());
    }
    let unfinished = directory.unfinished_directory();
    remove(&unfinished).map_err(refused("remove an unfinished set of pins"))?;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&unfinished)
        .map_err(refused("create the directory for the pins"))?;
    // The rename is the last step, so that a set that other processes can see is complete.
    let pinned = pin(&unfinished, unified).and_then(|()| {
        fs::rename(&unfinished, directory.set_directory())
            .map_err(refused("rename the directory of the pins"))
    });
    if pinned.is_err() {
        // Only the first error is reported. If this removal fails, the next loader removes the
        // directory.
        let _ = remove(&unfinished);
    }
    pinned
}

/// Loads and attaches the programs, and pins the maps and links in `directory`.
fn pin(directory: &Path, unified: Option<&Path>) -> Result<(), SourceError> {
    // libbpf writes to stderr, and containerd 1.6 reads stderr as part of the answer of `start`.
    libbpf_rs::set_print(Some((PrintLevel::Info, |level, text| {
        tracing::debug!(?level, "libbpf: {}", text.trim_end());
    })));
    let unified = unified.and_then(|root| File::open(root).ok());
    let mut object = match (load_object(unified.is_some()), &unified) {
        // UDP has requirements of its own (CONFIG_CGROUP_BPF, CAP_NET_ADMIN), so a failure with the
        // UDP programs does not mean that the other programs fail too.
        (Err(error), Some(_)) => {
            tracing::info!(
                error = chain(&error),
                "eBPF programs for UDP not loaded, loading the others"
            );
            load_object(false)?
        }
        (object, _) => object?,
    };
    for mut map in object.maps_mut() {
        let name = map.name().to_owned();
        if name == "config" {
            let config = Config { args_max: ARGS_MAX_DEFAULT, ..Config::default() };
            map.update(&0u32.to_bytes(), &config.to_bytes(), MapFlags::ANY)
                .map_err(refused("write the settings of the eBPF programs"))?;
        }
        map.pin(directory.join(name)).map_err(refused("pin the eBPF maps"))?;
    }
    for mut program in object.progs_mut() {
        if program.name() == MARK_SPAWNER.0 {
            program.pin(directory.join(MARK_SPAWNER.1)).map_err(refused("pin an eBPF program"))?;
        }
        let Some((_, name)) = LINKS.iter().find(|(function, _)| program.name() == *function) else {
            continue;
        };
        let mut link = program.attach().map_err(refused("attach the eBPF programs"))?;
        link.pin(directory.join(name)).map_err(refused("pin the eBPF links"))?;
    }
    match unified.map(|unified| attach_udp(&mut object, &unified)) {
        // Another owner's program that is attached to the root cgroup without BPF_F_ALLOW_MULTI
        // makes the kernel refuse ours. UDP sockets are then listed on request only.
        Some(Err(error)) => {
            tracing::info!(
                error = chain(&error),
                "eBPF programs for UDP not attached, no UDP events"
            );
        }
        Some(Ok(links)) => {
            for (mut link, name) in links {
                link.pin(directory.join(name)).map_err(refused("pin the eBPF links"))?;
            }
        }
        None => {}
    }
    Ok(())
}

/// Loads the programs into the kernel. The programs that see UDP are loaded only if `udp` is set.
fn load_object(udp: bool) -> Result<Object, SourceError> {
    let mut object = ObjectBuilder::default()
        .open_memory(object())
        .map_err(refused("read the eBPF programs"))?;
    for mut program in object.progs_mut() {
        let is_udp = UDP_LINKS.iter().any(|(function, _)| program.name() == *function);
        program.set_autoload(udp || !is_udp);
    }
    object.load().map_err(refused("load the eBPF programs"))
}

/// Attaches the UDP programs to a cgroup, and thereby to all cgroups below it. If the kernel
/// refuses one program, the others are detached again.
fn attach_udp(
    object: &mut Object,
    cgroup: &File,
) -> Result<Vec<(Link, &'static str)>, SourceError> {
    let mut links = Vec::new();
    for program in object.progs_mut() {
        let Some((_, name)) = UDP_LINKS.iter().find(|(function, _)| program.name() == *function)
        else {
            continue;
        };
        let link = program
            .attach_cgroup(cgroup.as_raw_fd())
            .map_err(refused("attach the eBPF programs to a cgroup"))?;
        links.push((link, *name));
    }
    Ok(links)
}

/// Removes a directory of pins; succeeds if it does not exist. bpffs has files and directories
/// only, and removing the name of a pin unpins its object.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether this process sees the root of the unified cgroup hierarchy, to which [`load`] attaches
/// the UDP programs.
#[must_use]
pub fn probe_udp() -> bool {
    unified_root().is_some()
}

/// Checks that this process could load the programs: its capabilities, the kernel's BTF, and the
/// creation of a ring. Loads nothing.
///
/// # Errors
///
/// [`SourceError::Missing`] with the missing requirement, [`SourceError::Kernel`] if the kernel
/// refuses bpf(2) itself.
pub fn probe() -> Result<(), SourceError> {
    let effective = Status::own()
        .effective_capabilities
        .ok_or(SourceError::Missing { what: "/proc/self/status" })?;
    if effective & SYS_ADMIN == 0 && effective & PERFMON_AND_BPF != PERFMON_AND_BPF {
        return Err(SourceError::Missing { what: "CAP_BPF with CAP_PERFMON" });
    }
    if !Path::new(KERNEL_TYPES).exists() {
        return Err(SourceError::Missing {
            what: "/sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF)",
        });
    }
    ring::probe()
}
