//! `hack/bench`: this shim against containerd's own, of the same containerd, in one run.
//!
//! ```text
//!  plan ──► measure::{start,task,exec,stdout,ctr,memory,…} ──► report ──► Markdown, JSON
//!                │ one sample of ours, one of Go's, one of ours, …
//!                ▼
//!  shim (start, delete) · client (Task), events, connections (ttrpc) · bundle · fifo · containerd (a private one)
//! ```
//!
//! Each measurement plays containerd's part itself, so that nothing but the shim and the runtime is
//! in the figure; only `ctr run` has a daemon in it.
//!
//! This program never cleans up processes and mounts: `hack/bench` starts it in a cgroup, and in a
//! mount namespace with a /run of its own, and ends what is left there. It is the parent of every
//! orphan below it, and so can wait for a shim that it did not spawn.

#![expect(clippy::disallowed_methods, reason = "a bench is no shim: it spawns its children itself")]

mod bundle;
mod client;
mod connections;
mod containerd;
mod events;
mod fifo;
mod machine;
mod measure;
mod place;
mod plan;
mod report;
mod samples;
mod shim;

use std::{env, process::ExitCode};

use place::Place;
use plan::Plan;
use report::Report;

/// Why a measurement could not be made.
type Error = Box<dyn std::error::Error + Send + Sync>;

type Result<T> = std::result::Result<T, Error>;

fn main() -> ExitCode {
    if env::var_os(place::DIRECTORY).is_none() {
        eprintln!(
            "run hack/bench: it builds the shims, and gives this program a cgroup and mounts of its own"
        );
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let plan = Plan::parse(env::args().skip(1))?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let place = Place::from_environment()?;
    let mut report = Report::new(machine::head(&place)?, plan.quick);
    let _events = events::serve(&place.events_socket())?;
    let beside = machine::Beside::begin()?;
    let measured = measure::all(&plan, &place, &mut report);
    let line =
        format!("{:.2} processors, on average, were busy with other things", beside.processors()?);
    report.head("meanwhile", line);
    // What was measured before something failed is worth reading, too.
    print!("{}", report.markdown());
    if let Some(path) = &plan.json {
        std::fs::write(path, report.json())?;
    }
    measured
}
