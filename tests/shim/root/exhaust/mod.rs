//! The shim under shortages: each of ten things is lacking during each of fourteen operations,
//! under two versions of containerd, with our shim and with the Go shim of that version.
//!
//! ```text
//! cell = version of containerd × shim × shortage × operation
//!   scene      a containerd of its own, a container, its shim
//!   shortage   takes something from that shim, proves that it is lacking, gives it back
//!   operation  what a client or the kernel does meanwhile
//!   cell       runs them, ends the container, and compares what happened with the rules
//!   results    one line of JSON for each cell; table: both shims side by side
//! ```
//!
//! `hack/exhaust` runs all cells and writes the table. The cells that decide are tests of their own
//! here.

mod cell;
mod client;
mod disk;
mod operation;
mod results;
mod scene;
mod shortage;
mod table;

use std::{
    collections::VecDeque,
    env,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use self::{
    cell::Cell,
    operation::Operation,
    results::{Report, Results},
    shortage::Shortage,
};
use crate::harness::containerd::Version;

/// The shim of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Implementation {
    Ours,
    Go,
}

impl Implementation {
    const ALL: [Self; 2] = [Self::Ours, Self::Go];

    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Go => "go",
        }
    }
}

/// The versions of containerd of the matrix.
const VERSIONS: [Version; 2] = [Version::V1_7, Version::V2_1];

fn version_name(version: Version) -> &'static str {
    match version {
        Version::V1_6 => "1.6",
        Version::V1_7 => "1.7",
        Version::V2_1 => "2.1",
    }
}

/// Those of `all` that the variable names, separated by commas; all if it is not set.
fn chosen<T: Copy>(variable: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Vec<T> {
    let Some(wanted) = env::var(variable).ok().filter(|wanted| !wanted.is_empty()) else {
        return all.to_vec();
    };
    let find = |wanted: &str| all.iter().copied().find(|value| name(*value) == wanted);
    let names = || all.iter().map(|value| name(*value)).collect::<Vec<_>>().join(", ");
    let found = wanted
        .split(',')
        .map(|wanted| find(wanted).unwrap_or_else(|| panic!("{wanted}: not one of {}", names())));
    found.collect()
}

/// Run the chosen cells, write their results and the table, and check that our shim breaks no rule
/// and is nowhere behind the Go shim. `hack/exhaust` runs it.
#[test]
#[ignore = "takes half an hour: hack/exhaust"]
fn the_matrix() {
    let begun = Instant::now();
    let mut cells = VecDeque::new();
    let shims = chosen("LOOKOUT_EXHAUST_SHIM", &Implementation::ALL, Implementation::name);
    let shortages = chosen("LOOKOUT_EXHAUST_SHORTAGE", &Shortage::ALL, Shortage::name);
    let operations = chosen("LOOKOUT_EXHAUST_OPERATION", &Operation::ALL, Operation::name);
    for version in chosen("LOOKOUT_EXHAUST_CONTAINERD", &VERSIONS, version_name) {
        for &shortage in &shortages {
            for &operation in &operations {
                for &shim in &shims {
                    cells.push_back(Cell { version, shim, shortage, operation });
                }
            }
        }
    }
    let results = Results::open(&file("LOOKOUT_EXHAUST_RESULTS", "target/exhaust.jsonl"), &cells);
    let total = cells.len();
    cells.retain(|cell| !results.has(cell));
    println!("{total} cells, {} of them done before", total - cells.len());
    let jobs = super::setting("LOOKOUT_EXHAUST_JOBS").unwrap_or(4);
    let (cells, results) = (Mutex::new(cells), Mutex::new(results));
    thread::scope(|scope| {
        for _ in 0..jobs {
            // Each worker is a thread with mount namespaces of its own.
            scope.spawn(|| {
                let next = || cells.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                while let Some(cell) = next() {
                    let report = cell.report();
                    println!("{}", report.line());
                    results.lock().unwrap_or_else(PoisonError::into_inner).add(report);
                }
            });
        }
    });
    let results = results.into_inner().expect("no worker has panicked");
    println!("\n{}", table::matrix(results.reports()));
    if let Some(path) = env::var_os("LOOKOUT_EXHAUST_TABLE").filter(|path| !path.is_empty()) {
        table::replace(&PathBuf::from(path), results.reports());
    }
    let verdict = table::verdict(results.reports());
    println!("{}\n{} s", verdict.summary, begun.elapsed().as_secs());
    assert!(verdict.is_good, "our shim breaks a rule or is behind the Go shim");
}

fn file(variable: &str, default: &str) -> PathBuf {
    let named = env::var_os(variable).filter(|path| !path.is_empty());
    named.map_or_else(|| default.into(), PathBuf::from)
}

/// Runs a cell of our shim. Panics if it breaks a rule.
#[track_caller]
fn assert_right(version: Version, shortage: Shortage, operation: Operation) {
    let cell = Cell { version, shim: Implementation::Ours, shortage, operation };
    let report: Report = cell.report();
    assert!(report.wrong.is_empty(), "{}", report.line());
}

/// Check that nothing is left of the container of a shim that was killed, although the verb
/// `delete` can make neither a thread nor a process.
#[test]
fn a_dead_shim_leaves_nothing_although_no_process_can_be_made() {
    assert_right(Version::V1_7, Shortage::NoThread, Operation::DeleteVerb);
}

/// Check the same if the runtime is gone.
#[test]
fn a_dead_shim_leaves_nothing_although_the_runtime_is_gone() {
    assert_right(Version::V2_1, Shortage::RuntimeGone, Operation::DeleteVerb);
}

/// Check that the exit of init comes, and State is answered, while the disk of the bundle hangs.
#[test]
fn an_init_ends_although_the_disk_hangs() {
    assert_right(Version::V1_7, Shortage::DiskHangs, Operation::InitExit);
}

/// Check that State is answered while an exec cannot start because the disk hangs.
#[test]
fn an_exec_waits_alone_for_a_disk_that_hangs() {
    assert_right(Version::V2_1, Shortage::DiskHangs, Operation::Exec);
}

/// Check that a container can be frozen and thawed while the disk of its bundle hangs.
#[test]
fn a_pause_needs_no_disk() {
    assert_right(Version::V2_1, Shortage::DiskHangs, Operation::Pause);
}

/// Check that a restart of containerd finds the task although the runtime does not answer.
#[test]
fn a_restart_finds_the_task_although_the_runtime_hangs() {
    assert_right(Version::V2_1, Shortage::RuntimeHangs, Operation::Restart);
}

/// Check that the exit of an exec comes when containerd is back.
#[test]
fn an_exec_that_ended_while_containerd_was_away_is_reported() {
    assert_right(Version::V1_7, Shortage::ContainerdAway, Operation::ExecExit);
}

/// Check that nothing is left of the container of a shim that was killed, although the kernel kills
/// what asks for memory.
#[test]
fn a_dead_shim_leaves_nothing_at_the_limit_of_memory() {
    assert_right(Version::V1_7, Shortage::MemoryLimit, Operation::DeleteVerb);
}
