//! What can be observed on this node, found by asking the running kernel.
//!
//! Asked once, before the first container, and again by `lookout capabilities`. A category that is not
//! supported never gives events, and says so here first.

mod render;

use std::fs;

use nix::errno::Errno;

use super::source::connector;
use crate::model::{Backend, Capability, Category, Support, chain};

/// What each source's own probe answered: nothing, or why it cannot be had, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probes {
    /// The eBPF programs.
    pub bpf: Result<(), String>,
    /// Whether they see UDP too.
    pub udp: bool,
    /// The proc connector.
    pub connector: Result<(), String>,
    /// `/proc`.
    pub proc: Result<(), String>,
}

/// What can be observed, one answer a category.
///
/// ```
/// use lookout::{
///     model::{Category, Support},
///     observe::capability::{Capabilities, Probes},
/// };
///
/// let bpf = Err("bpf(2) is refused".into());
/// let probes = Probes { bpf, udp: false, connector: Ok(()), proc: Ok(()) };
/// let capabilities = Capabilities::from_probes(&probes);
/// assert_eq!(capabilities.support(Category::Process), Support::Partial);
/// assert_eq!(capabilities.category(Category::Process).backend, "connector");
/// assert!(!capabilities.is_supported(Category::File));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    categories: [Capability; 4],
}

/// Asks the running kernel. `bpf` is the probe of the eBPF programs, `udp` that of those that see UDP; they are asked
/// first, and the others even where they consent, because a source can end.
#[must_use]
pub fn negotiate(bpf: impl FnOnce() -> Result<(), String>, udp: impl FnOnce() -> bool) -> Capabilities {
    Capabilities::from_probes(&Probes { bpf: bpf(), udp: udp(), connector: probe_connector(), proc: probe_proc() })
}

/// Whether the kernel lets this process listen on its proc connector. Asks with the request and waits
/// for its answer, at most a second; then stops listening.
///
/// # Errors
///
/// Why not, in one line.
pub fn probe_connector() -> Result<(), String> {
    connector::probe().map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED) => "not in the initial network namespace".to_owned(),
        Some(Errno::EPERM) => "CAP_NET_ADMIN is missing".to_owned(),
        Some(Errno::EPROTONOSUPPORT) => "this kernel has no connector".to_owned(),
        Some(Errno::ETIMEDOUT) => "not in the initial pid and user namespace, or no CONFIG_PROC_EVENTS".to_owned(),
        _ => error.to_string(),
    })
}

/// Whether `/proc` tells of other users' processes as well.
///
/// # Errors
///
/// Why not, in one line.
pub fn probe_proc() -> Result<(), String> {
    // With `hidepid` pid 1 is what others do not see. What of a process may be read is asked of each:
    // an image that the kernel refuses says so.
    fs::read("/proc/1/stat").map(drop).map_err(|error| format!("/proc cannot be read: {error}"))
}

impl Capabilities {
    /// What follows from the probes.
    #[must_use]
    pub fn from_probes(probes: &Probes) -> Self {
        Self { categories: [lifecycle(probes), file(), network(probes), process(probes)] }
    }

    /// Nothing, for one reason.
    #[must_use]
    pub fn unavailable(reason: &str) -> Self {
        let none = |category| answer(category, Support::Unavailable, "none", reason.to_owned());
        Self { categories: Category::ALL.map(none) }
    }

    /// One answer a category, in the order `lifecycle`, `file`, `network`, `process`.
    #[must_use]
    pub fn categories(&self) -> &[Capability] {
        &self.categories
    }

    /// One category's answer.
    #[must_use]
    pub fn category(&self, category: Category) -> &Capability {
        // An array by construction: each category has its place.
        &self.categories[match category {
            Category::Lifecycle => 0,
            Category::File => 1,
            Category::Network => 2,
            Category::Process => 3,
        }]
    }

    /// How far a category is observed.
    #[must_use]
    pub fn support(&self, category: Category) -> Support {
        self.category(category).support
    }

    /// Whether a category is observed as far as it promises; `partial` is not.
    #[must_use]
    pub fn is_supported(&self, category: Category) -> bool {
        self.support(category) == Support::Supported
    }
}

fn lifecycle(probes: &Probes) -> Capability {
    let category = Category::Lifecycle;
    match best(probes) {
        (Some(Backend::Bpf), _) => {
            answer(category, Support::Supported, "bpf", "every start and exit, counted in the kernel".into())
        }
        (Some(Backend::Connector), why) => answer(
            category,
            Support::Partial,
            "connector",
            format!("starts and exits are told, losses are noticed and not counted ({why})"),
        ),
        (Some(_), why) => answer(
            category,
            Support::Partial,
            "poll",
            format!("only what lives at a look, without exit status ({why})"),
        ),
        (None, why) => answer(category, Support::Unavailable, "none", why),
    }
}

fn process(probes: &Probes) -> Capability {
    let category = Category::Process;
    match best(probes) {
        (Some(Backend::Bpf), _) => answer(
            category,
            Support::Supported,
            "bpf",
            "every exec with its arguments, executable and identity, read in the kernel".into(),
        ),
        (Some(Backend::Connector), why) => answer(
            category,
            Support::Partial,
            "connector",
            format!("arguments of short-lived processes are missed ({why})"),
        ),
        (Some(_), why) => answer(category, Support::Partial, "poll", format!("only what lives at a look ({why})")),
        (None, why) => answer(category, Support::Unavailable, "none", why),
    }
}

fn file() -> Capability {
    let reason = "files are not observed: that would slow down every system call of the node";
    answer(Category::File, Support::Unavailable, "none", reason.into())
}

fn network(probes: &Probes) -> Capability {
    let category = Category::Network;
    match &probes.bpf {
        Ok(()) => {
            let reason = match probes.udp {
                true => "every TCP and UDP port that opens and closes; no connections",
                false => {
                    "every TCP port that opens and closes; UDP is listed only, because no program can be attached to the \
                     root of the unified cgroup hierarchy; no connections"
                }
            };
            answer(category, Support::Partial, "bpf", reason.into())
        }
        Err(why) if probes.proc.is_ok() => {
            let reason = format!("TCP ports by the kernel's list of sockets: short-lived ones are missed (bpf: {why})");
            answer(category, Support::Partial, "sock_diag", reason)
        }
        Err(why) => answer(category, Support::Unavailable, "none", format!("bpf: {why}")),
    }
}

/// The best source that can be had, and why each better one cannot. The connector gives nothing without
/// `/proc`: neither whose a process is nor what it runs.
fn best(probes: &Probes) -> (Option<Backend>, String) {
    let Err(bpf) = &probes.bpf else { return (Some(Backend::Bpf), String::new()) };
    let mut why = format!("bpf: {bpf}");
    let proc = probes.proc.as_ref();
    match (&probes.connector, proc) {
        (Ok(()), Ok(())) => return (Some(Backend::Connector), why),
        (Err(reason), _) => why = format!("{why}; connector: {reason}"),
        (Ok(()), Err(_)) => {}
    }
    match proc {
        Ok(()) => (Some(Backend::Poll), why),
        Err(reason) => (None, format!("{why}; proc: {reason}")),
    }
}

fn answer(category: Category, support: Support, backend: &str, reason: String) -> Capability {
    Capability { category, support, backend: backend.into(), reason }
}

/// A probe's refusal in one line, its causes too.
#[must_use]
pub fn refusal(error: &dyn std::error::Error) -> String {
    chain(error).replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests;
