//! What others that tell execs cost, and how many of them they tell.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
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
            let tool = Outside::start(place, command)?;
            thread::sleep(UP);
            pair.ours.push(storm(place, unwatched)?);
            thread::sleep(UP);
            right += tool.end()?;
        }
        report.watching(&format!("beside {name}"), Unit::PerSecond, pair, None);
        report.fact(format!("{name} told {right} of {} execs with the right argument", rounds * COUNT));
    }
    Ok(())
}

/// A tool that `hack/bench` runs outside of our PID namespace, where it sees the node.
struct Outside {
    folder: PathBuf,
}

impl Outside {
    fn start(place: &Place, command: &[&str]) -> Result<Self> {
        let tool = Self { folder: place.folder().to_owned() };
        tool.say(&command.join(" "))?;
        Ok(tool)
    }

    /// Ends it, and says how many leaves it told.
    fn end(self) -> Result<usize> {
        let ended = self.folder.join("outside.ended");
        self.say("")?;
        let begun = Instant::now();
        while fs::remove_file(&ended).is_err() {
            if begun.elapsed() > 10 * UP {
                return Err("a tool does not end".into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        let leaves = Leaves::numbered(0, COUNT);
        let told = BufReader::new(fs::File::open(self.folder.join("outside.told"))?);
        let lines = told.lines().map_while(std::result::Result::ok);
        lines.filter_map(|line| leaves::of_line(&line)).for_each(|number| leaves.tell(number));
        Ok(leaves.told())
    }

    fn say(&self, line: &str) -> Result<()> {
        let mut commands = fs::File::options().write(true).open(self.folder.join("outside"))?;
        Ok(writeln!(commands, "{line}")?)
    }
}
