//! What can be observed on this node, as probes of the running kernel found it.
//!
//! A shim probes once, before its first container; `lookout capabilities` probes again if no shim
//! runs. A category without support never has events, and its reason states why.

mod render;

use crate::model::{Backend, Capability, Category, Support, chain};

/// The result of each source's probe: `Ok`, or in one line why the source is not available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probes {
    /// Whether the eBPF programs can be loaded.
    pub bpf: Result<(), String>,
    /// Whether the eBPF programs can also observe UDP ports.
    pub udp: bool,
    /// Whether the proc connector sends its events to this process.
    pub connector: Result<(), String>,
    /// Whether `/proc` shows the processes of other users.
    pub proc: Result<(), String>,
}

/// What can be observed: support, backend and reason of each category.
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

impl Capabilities {
    /// Derives each category's support from the probes. The best available source decides.
    #[must_use]
    pub fn from_probes(probes: &Probes) -> Self {
        Self { categories: [lifecycle(probes), file(), network(probes), process(probes)] }
    }

    /// Every category is unavailable for the same reason, which is one line of text.
    #[must_use]
    pub fn unavailable(reason: &str) -> Self {
        let unavailable =
            |category| capability(category, Support::Unavailable, "none", reason.to_owned());
        Self { categories: Category::ALL.map(unavailable) }
    }

    /// All categories, in the order `lifecycle`, `file`, `network`, `process`.
    #[must_use]
    pub fn categories(&self) -> &[Capability] {
        &self.categories
    }

    /// Support, backend and reason of one category.
    #[must_use]
    pub fn category(&self, category: Category) -> &Capability {
        // The match gives each category an index below 4, so the access cannot panic.
        &self.categories[match category {
            Category::Lifecycle => 0,
            Category::File => 1,
            Category::Network => 2,
            Category::Process => 3,
        }]
    }

    /// How completely a category is observed.
    #[must_use]
    pub fn support(&self, category: Category) -> Support {
        self.category(category).support
    }

    /// Whether a category is observed completely. `partial` support is not enough.
    #[must_use]
    pub fn is_supported(&self, category: Category) -> bool {
        self.support(category) == Support::Supported
    }
}

fn lifecycle(probes: &Probes) -> Capability {
    let category = Category::Lifecycle;
    match best(probes) {
        (Some(Backend::Bpf), _) => capability(
            category,
            Support::Supported,
            "bpf",
            "every start and exit, with losses counted in the kernel".into(),
        ),
        (Some(Backend::Connector), why) => capability(
            category,
            Support::Partial,
            "connector",
            format!("starts and exits; losses are detected but not counted ({why})"),
        ),
        (Some(_), why) => capability(
            category,
            Support::Partial,
            "poll",
            format!("only processes that are alive during a scan, without exit status ({why})"),
        ),
        (None, why) => capability(category, Support::Unavailable, "none", why),
    }
}

fn process(probes: &Probes) -> Capability {
    let category = Category::Process;
    match best(probes) {
        (Some(Backend::Bpf), _) => capability(
            category,
            Support::Supported,
            "bpf",
            "every exec with its arguments, executable and identity, read in the kernel".into(),
        ),
        (Some(Backend::Connector), why) => capability(
            category,
            Support::Partial,
            "connector",
            format!("execs, but not the arguments of short-lived processes ({why})"),
        ),
        (Some(_), why) => capability(
            category,
            Support::Partial,
            "poll",
            format!("only processes that are alive during a scan ({why})"),
        ),
        (None, why) => capability(category, Support::Unavailable, "none", why),
    }
}

fn file() -> Capability {
    let reason =
        "files are not observed, because that would slow down every system call on the node";
    capability(Category::File, Support::Unavailable, "none", reason.into())
}

fn network(probes: &Probes) -> Capability {
    let category = Category::Network;
    match &probes.bpf {
        Ok(()) => {
            // Even with UDP the support is partial, because no source observes connections.
            let reason = match probes.udp {
                true => "every TCP and UDP port that opens or closes; connections are not observed",
                false => {
                    "every TCP port that opens or closes; UDP ports are only listed, because no \
                     program can be attached to the root of the unified cgroup hierarchy; \
                     connections are not observed"
                }
            };
            capability(category, Support::Partial, "bpf", reason.into())
        }
        Err(why) if probes.proc.is_ok() => {
            let reason = format!(
                "TCP ports from the kernel's list of sockets; short-lived ports are missed \
                 (bpf: {why})"
            );
            capability(category, Support::Partial, "sock_diag", reason)
        }
        Err(why) => capability(category, Support::Unavailable, "none", format!("bpf: {why}")),
    }
}

/// The best available source, and why each better source is not available.
fn best(probes: &Probes) -> (Option<Backend>, String) {
    let Err(bpf) = &probes.bpf else { return (Some(Backend::Bpf), String::new()) };
    let mut why = format!("bpf: {bpf}");
    let proc = probes.proc.as_ref();
    // The connector's events have only pids. Attribution and image are read from `/proc`, so the
    // connector is useless without it.
    match (&probes.connector, proc) {
        (Ok(()), Ok(())) => return (Some(Backend::Connector), why),
        (Err(reason), _) => why = format!("{why}; connector: {reason}"),
        // The connector itself works; the reason of `/proc` follows below.
        (Ok(()), Err(_)) => {}
    }
    match proc {
        Ok(()) => (Some(Backend::Poll), why),
        Err(reason) => (None, format!("{why}; proc: {reason}")),
    }
}

fn capability(category: Category, support: Support, backend: &str, reason: String) -> Capability {
    Capability { category, support, backend: backend.into(), reason }
}

/// The error of a probe and its causes, in one line: reasons are printed as table cells.
#[must_use]
pub fn refusal(error: &dyn std::error::Error) -> String {
    chain(error).replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests;
