//! Loads the programs, once a node. Runs in a process of its own that ends right after.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::DirBuilderExt as _},
    path::Path,
};

use libbpf_rs::{Link, MapCore as _, MapFlags, Object, ObjectBuilder, PrintLevel};

use super::{
    layout::{Config, Plain as _},
    pins::{LINKS, PinDirectory, UDP_LINKS, unified_root},
    refused,
    ring::try_one,
};
use crate::{model::chain, observe::source::SourceError};

/// How much of argv an exec carries where nobody says otherwise, in bytes.
const ARGS_MAX_DEFAULT: u32 = 4096;

/// What the kernel knows of its own types; without it nothing can be moved to the running kernel.
const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

/// Capabilities as bits of `CapEff`: `CAP_SYS_ADMIN` has all of the others.
const SYS_ADMIN: u64 = 1 << 21;
const PERFMON_AND_BPF: u64 = (1 << 38) | (1 << 39);

/// The compiled `bpf/`, aligned as libelf wants it.
#[repr(align(8))]
struct Aligned<T: ?Sized>(T);
static OBJECT: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/lookout.bpf.o")));

/// The compiled `bpf/`: an ELF object with BTF.
pub(super) fn object() -> &'static [u8] {
    &OBJECT.0
}

/// Loads, attaches and pins the set of this build under `bpffs`; does nothing where it is there.
///
/// Killed at any step it leaves at most a folder that the next call sweeps. Takes 25–50 ms and some
/// megabytes that libbpf keeps, so a process that lives on should not call it.
///
/// # Errors
///
/// [`SourceError`]: see [`probe`] for why a kernel may refuse.
pub fn load(bpffs: &Path) -> Result<(), SourceError> {
    load_with(bpffs, unified_root().as_deref())
}

/// The same with this for the root of the unified hierarchy.
pub(super) fn load_with(bpffs: &Path, unified: Option<&Path>) -> Result<(), SourceError> {
    let directory = PinDirectory::new(bpffs);
    directory.make()?;
    let _lock = directory.lock().map_err(refused("lock the pins"))?;
    if directory.set().try_exists().map_err(refused("look at bpffs"))? {
        return Ok(());
    }
    let unfinished = directory.unfinished();
    remove(&unfinished).map_err(refused("sweep what a loader left"))?;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&unfinished)
        .map_err(refused("make a folder in bpffs"))?;
    let made = pin(&unfinished, unified).and_then(|()| {
        fs::rename(&unfinished, directory.set()).map_err(refused("put the pins in their directory"))
    });
    if made.is_err() {
        // What matters is why it failed; the next loader sweeps too.
        let _ = remove(&unfinished);
    }
    made
}

fn pin(folder: &Path, unified: Option<&Path>) -> Result<(), SourceError> {
    // libbpf writes to stderr, which containerd 1.6 takes for the answer of `start`.
    libbpf_rs::set_print(Some((PrintLevel::Info, |level, text| {
        tracing::debug!(?level, "libbpf: {}", text.trim_end());
    })));
    let unified = unified.and_then(|root| File::open(root).ok());
    let mut object = match (open(unified.is_some()), &unified) {
        // A kernel may lack what UDP needs (CONFIG_CGROUP_BPF, CAP_NET_ADMIN) and have all else.
        (Err(error), Some(_)) => {
            tracing::info!(error = chain(&error), "without the programs that see UDP");
            open(false)?
        }
        (object, _) => object?,
    };
    for mut map in object.maps_mut() {
        let name = map.name().to_owned();
        if name == "config" {
            let config = Config { args_max: ARGS_MAX_DEFAULT, ..Config::default() };
            map.update(&0u32.to_bytes(), &config.to_bytes(), MapFlags::ANY)
                .map_err(refused("set what is set"))?;
        }
        map.pin(folder.join(name)).map_err(refused("pin the maps"))?;
    }
    for program in object.progs_mut() {
        let Some((_, name)) = LINKS.iter().find(|(function, _)| program.name() == *function) else {
            continue;
        };
        let mut link = program.attach().map_err(refused("attach the programs"))?;
        link.pin(folder.join(name)).map_err(refused("pin the links"))?;
    }
    match unified.map(|unified| attach_udp(&mut object, &unified)) {
        // Another may have forbidden it: UDP is listed when asked then, as without the hierarchy.
        Some(Err(error)) => tracing::info!(error = chain(&error), "UDP is not seen"),
        Some(Ok(links)) => {
            for (mut link, name) in links {
                link.pin(folder.join(name)).map_err(refused("pin the links"))?;
            }
        }
        None => {}
    }
    Ok(())
}

/// The programs, loaded; those that see UDP only where that is wanted.
fn open(udp: bool) -> Result<Object, SourceError> {
    let mut object =
        ObjectBuilder::default().open_memory(object()).map_err(refused("read the programs"))?;
    for mut program in object.progs_mut() {
        let is_udp = UDP_LINKS.iter().any(|(function, _)| program.name() == *function);
        program.set_autoload(udp || !is_udp);
    }
    object.load().map_err(refused("load the programs"))
}

/// Attaches those that see UDP to a cgroup with all that are below it; none where one is refused.
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
            .map_err(refused("attach the programs to a cgroup"))?;
        links.push((link, *name));
    }
    Ok(links)
}

/// Removes a folder of pins; one that is not there is no error. bpffs has files and folders only,
/// so what is pinned goes with its name.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether the loader would find where to attach the programs that see UDP.
#[must_use]
pub fn probe_udp() -> bool {
    unified_root().is_some()
}

/// Asks whether this process could have the source, without loading anything.
///
/// # Errors
///
/// [`SourceError::Missing`] with what is missing, [`SourceError::Kernel`] where bpf(2) itself is
/// refused.
pub fn probe() -> Result<(), SourceError> {
    let status = procfs::process::Process::myself().and_then(|myself| myself.status());
    let effective =
        status.map_err(io::Error::other).map_err(refused("read the capabilities"))?.capeff;
    if effective & SYS_ADMIN == 0 && effective & PERFMON_AND_BPF != PERFMON_AND_BPF {
        return Err(SourceError::Missing { what: "CAP_BPF with CAP_PERFMON" });
    }
    if !Path::new(KERNEL_TYPES).exists() {
        return Err(SourceError::Missing {
            what: "/sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF)",
        });
    }
    try_one()
}
