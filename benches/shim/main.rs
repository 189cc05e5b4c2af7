//! The program behind `hack/bench`: measures this shim and containerd's own in one run, with the
//! same containerd.
//!
//! ```text
//!  plan ──► measure::{start,task,exec,stdout,ctr,memory,…} ──► report ──► Markdown, JSON
//!                │ one sample of ours, one of Go's, one of ours, …
//!                ▼
//!  shim (start, delete) · client (Task), events, connections (ttrpc)
//!  bundle · fifo · containerd (a private one)
//! ```
//!
//! Each measurement plays containerd's part itself, so that a figure contains only the shim and the
//! runtime. Only `ctr run` involves a daemon.
//!
//! This program does not clean up processes and mounts. `hack/bench` starts it in a cgroup, and in
//! a mount namespace with its own /run, and removes what is left there. The program is a subreaper,
//! so it can wait for a shim that it did not spawn.

#![expect(clippy::disallowed_methods, reason = "a bench is not a shim and spawns its own children")]

mod bundle;
mod client;
mod connections;
mod containerd;
mod events;
mod fifo;
mod machine;
mod measure;
mod plan;
mod report;
mod samples;
mod shim;
mod workspace;

use std::{env, process::ExitCode};

use plan::Plan;
use report::Report;
use workspace::Workspace;

/// The reason why a measurement could not be made.
type Error = Box<dyn std::error::Error + Send + Sync>;

type Result<T> = std::result::Result<T, Error>;

fn main() -> ExitCode {
    if env::var_os(workspace::DIRECTORY).is_none() {
        eprintln!(
            "run hack/bench: it builds the shims, and gives this program its own cgroup and mounts"
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
    let workspace = Workspace::from_environment()?;
    let mut report = Report::new(machine::head(&workspace)?, plan.quick);
    let _events = events::serve(&workspace.events_socket())?;
    let beside = machine::Beside::begin()?;
    let measured = measure::all(&plan, &workspace, &mut report);
    let line =
        format!("{:.2} processors, on average, were busy with other things", beside.processors()?);
    report.head("meanwhile", line);
    // Results from before a failure are still useful.
    print!("{}", report.markdown());
    if let Some(path) = &plan.json {
        std::fs::write(path, report.json())?;
    }
    measured
}
