//! What can be observed on this node, found by asking the running kernel.
//!
//! Asked once, before the first container, and again by `lookout capabilities`. A category that is
//! not supported never gives events, and says so here first.

mod render;

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
        (Some(Backend::Bpf), _) => answer(
            category,
            Support::Supported,
            "bpf",
            "every start and exit, counted in the kernel".into(),
        ),
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
        (Some(_), why) => {
            answer(category, Support::Partial, "poll", format!("only what lives at a look ({why})"))
        }
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
            let reason = format!(
                "TCP ports by the kernel's list of sockets: short-lived ones are missed (bpf: {why})"
            );
            answer(category, Support::Partial, "sock_diag", reason)
        }
        Err(why) => answer(category, Support::Unavailable, "none", format!("bpf: {why}")),
    }
}

/// The best source that can be had, and why each better one cannot. The connector gives nothing
/// without `/proc`: neither whose a process is nor what it runs.
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
