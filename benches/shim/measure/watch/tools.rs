//! What others that tell execs cost, and how many of them they tell.

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
    place::Place,
    plan::Plan,
    report::{Report, Unit},
    samples::Pair,
    shim::Shim,
};

pub(super) fn measure(
    plan: &Plan,
    place: &Place,
    unwatched: &Shim,
    report: &mut Report,
    say: &impl Fn(&str),
) -> Result<()> {
    let known: [(&str, &[&str]); 2] =
        [("execsnoop", &["execsnoop"]), ("forkstat", &["forkstat", "-l", "-e", "exec,exit"])];
    for (name, command) in known {
        let (mut pair, mut right, rounds) = (Pair::in_turns(), 0, plan.crews);
        for round in 1..=rounds {
            say(&format!("storms beside {name}, round {round}"));
            pair.go.push(storm(place, unwatched)?);
            let tool = Tool::start(place, command)?;
            thread::sleep(UP);
            pair.ours.push(storm(place, unwatched)?);
            thread::sleep(UP);
            right += tool.end()?;
        }
        report.watching(&format!("beside {name}"), Unit::PerSecond, pair, None);
        report.fact(format!(
            "{name} told {right} of {} execs with the right argument",
            rounds * COUNT
        ));
    }
    Ok(())
}

/// A tool that observes the node.
struct Tool {
    child: Child,
    told: PathBuf,
}

impl Tool {
    fn start(place: &Place, command: &[&str]) -> Result<Self> {
        let told = place.on_disk("told");
        let stdout = fs::File::create(&told)?;
        let [program, arguments @ ..] = command else { return Err("no tool".into()) };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null());
        Ok(Self { child: command.spawn().map_err(|error| format!("{program}: {error}"))?, told })
    }

    /// Ends it by the interrupt that makes it write what it still has, and says how many leaves it
    /// told.
    fn end(mut self) -> Result<usize> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGINT)?;
        self.child.wait()?;
        let leaves = Leaves::numbered(0, COUNT);
        let told = BufReader::new(fs::File::open(self.told)?);
        let lines = told.lines().map_while(std::result::Result::ok);
        lines.filter_map(|line| leaves::of_line(&line)).for_each(|number| leaves.tell(number));
        Ok(leaves.told())
    }
}
