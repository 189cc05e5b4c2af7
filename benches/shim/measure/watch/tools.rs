//! What other tools that report execs cost, and how many execs they report.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    UP,
    leaves::{self, Leaves},
    storm::{COUNT, storm},
};
use crate::{
    Result,
    plan::Plan,
    report::{Report, Unit},
    samples::Pair,
    shim::Shim,
    workspace::Workspace,
};

pub(super) fn measure(
    plan: &Plan,
    workspace: &Workspace,
    unwatched: &Shim,
    report: &mut Report,
    progress: &impl Fn(&str),
) -> Result<()> {
    let known: [(&str, &[&str]); 2] =
        [("execsnoop", &["execsnoop"]), ("forkstat", &["forkstat", "-l", "-e", "exec,exit"])];
    for (name, command) in known {
        let (mut pair, mut right, rounds) = (Pair::in_turns(), 0, plan.crews);
        for round in 1..=rounds {
            progress(&format!("storms beside {name}, round {round}"));
            pair.go.push(storm(workspace, unwatched)?);
            let tool = Tool::start(workspace, command)?;
            thread::sleep(UP);
            pair.ours.push(storm(workspace, unwatched)?);
            thread::sleep(UP);
            right += tool.end()?;
        }
        report.observed(&format!("beside {name}"), Unit::PerSecond, pair, None);
        report.fact(format!(
            "{name} reported {right} of {} execs with the right argument",
            rounds * COUNT
        ));
    }
    Ok(())
}

/// A running tool that observes the whole node.
struct Tool {
    child: Child,
    output: PathBuf,
}

impl Tool {
    fn start(workspace: &Workspace, command: &[&str]) -> Result<Self> {
        let output = workspace.on_disk("tool-output");
        let stdout = fs::File::create(&output)?;
        let [program, arguments @ ..] = command else { return Err("no tool".into()) };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null());
        Ok(Self { child: command.spawn().map_err(|error| format!("{program}: {error}"))?, output })
    }

    /// Interrupts it, so that it writes what it has buffered. Returns how many leaves it reported.
    fn end(mut self) -> Result<usize> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGINT)?;
        self.child.wait()?;
        let leaves = Leaves::numbered(0, COUNT);
        let output = BufReader::new(fs::File::open(self.output)?);
        let lines = output.lines().map_while(std::result::Result::ok);
        lines.filter_map(|line| leaves::of_line(&line)).for_each(|number| leaves.report(number));
        Ok(leaves.reported())
    }
}
