//! What was measured, as Markdown for people and as JSON for programs.

mod json;
mod markdown;

use std::collections::BTreeMap;

use crate::{
    measure::STEPS,
    place::{Runtime, Version},
    samples::{Pair, Samples},
};

/// Everything of one run.
pub(crate) struct Report {
    head: Vec<(&'static str, String)>,
    quick: bool,
    rows: Vec<Row>,
    floors: Vec<Floor>,
    steps: Vec<Steps>,
    memory: Vec<Composition>,
    watching: Vec<Watching>,
    facts: Vec<String>,
}

/// One quantity of a container that is watched, and of one that is not.
struct Watching {
    what: String,
    unit: Unit,
    /// With something beside it, and without.
    pair: Pair,
    budget: Option<Budget>,
}

/// One quantity, ours and Go's.
struct Row {
    what: String,
    version: Version,
    unit: Unit,
    pair: Pair,
    budget: Option<Budget>,
}

/// NewTask to Delete, and the runtime alone.
struct Floor {
    runtime: Runtime,
    version: Version,
    bare: Samples,
    whole: Pair,
}

/// The parts of NewTask to Delete, in milliseconds.
struct Steps {
    runtime: Runtime,
    version: Version,
    sides: BTreeMap<&'static str, [Samples; STEPS.len()]>,
}

/// What a shim's memory is made of.
struct Composition {
    of: String,
    kind: String,
    memory: Memory,
}

/// Of a process, in KiB: the lines of smaps_rollup that say what its share of memory is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory([Samples; Memory::LINES.len()]);

impl Memory {
    const LINES: [&str; 6] = ["Pss", "Pss_Anon", "Pss_File", "Pss_Shmem", "Private_Dirty", "Rss"];

    /// Adds the lines of one process.
    pub(crate) fn push(&mut self, lines: &BTreeMap<String, f64>) {
        for (name, samples) in Self::LINES.iter().zip(&mut self.0) {
            samples.extend(lines.get(*name).copied());
        }
    }

    /// The samples of one line; of the first if it is none of them.
    pub(crate) fn of(&self, line: &str) -> &Samples {
        let index = Self::LINES.iter().position(|name| *name == line).unwrap_or_default();
        &self.0[index]
    }
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Milliseconds,
    Seconds,
    Kibibytes,
    MebibytesPerSecond,
    PerSecond,
    Count,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::Kibibytes => "KiB",
            Self::MebibytesPerSecond => "MiB/s",
            Self::PerSecond => "/s",
            Self::Count => "",
        }
    }
}

/// What was promised (`DESIGN.md` §8).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Budget {
    /// Our median is at most so many times Go's.
    Ratio(f64),
    /// Our median is at least so many times Go's.
    RatioAtLeast(f64),
    /// Our largest is at most this, whatever Go's is.
    OursAtMost(f64),
}

impl Watching {
    fn as_row(&self) -> Row {
        let (what, pair) = (self.what.clone(), self.pair.clone());
        Row { what, version: Version::V1_7, unit: self.unit, pair, budget: self.budget }
    }
}

impl Row {
    /// Whether the budget is kept, at the two decimals that are shown, and whether the samples are
    /// enough to say so.
    fn verdict(&self) -> Option<Verdict> {
        let round = |ratio: f64| (ratio * 100.0).round() / 100.0;
        let (low, high) = self.pair.ratio_interval();
        let keeps = |ratio: f64, budget| match budget {
            Budget::Ratio(most) => round(ratio) <= most,
            Budget::RatioAtLeast(least) => round(ratio) >= least,
            Budget::OursAtMost(most) => self.pair.ours.max() <= most,
        };
        self.budget.map(|budget| Verdict {
            is_kept: keeps(self.pair.ratio(), budget),
            is_sure: keeps(low, budget) == keeps(high, budget),
        })
    }
}

/// What a row says of its budget.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    is_kept: bool,
    /// The budget is not within the interval of the ratio.
    is_sure: bool,
}

impl Report {
    pub(crate) fn new(head: Vec<(&'static str, String)>, quick: bool) -> Self {
        Self {
            head,
            quick,
            rows: Vec::new(),
            floors: Vec::new(),
            steps: Vec::new(),
            memory: Vec::new(),
            watching: Vec::new(),
            facts: Vec::new(),
        }
    }

    /// One more line about the machine.
    pub(crate) fn head(&mut self, name: &'static str, value: String) {
        self.head.push((name, value));
    }

    pub(crate) fn row(
        &mut self,
        what: &str,
        version: Version,
        unit: Unit,
        pair: Pair,
        budget: Option<Budget>,
    ) {
        self.rows.push(Row { what: what.to_owned(), version, unit, pair, budget });
    }

    pub(crate) fn floor(
        &mut self,
        runtime: Runtime,
        version: Version,
        bare: &Samples,
        whole: &Pair,
    ) {
        self.floors.push(Floor { runtime, version, bare: bare.clone(), whole: whole.clone() });
    }

    pub(crate) fn steps(
        &mut self,
        runtime: Runtime,
        version: Version,
        sides: BTreeMap<&'static str, [Samples; STEPS.len()]>,
    ) {
        self.steps.push(Steps { runtime, version, sides });
    }

    /// A quantity with something beside it, and without.
    pub(crate) fn watching(&mut self, what: &str, unit: Unit, pair: Pair, budget: Option<Budget>) {
        self.watching.push(Watching { what: what.to_owned(), unit, pair, budget });
    }

    /// A line below the tables.
    pub(crate) fn fact(&mut self, line: String) {
        self.facts.push(line);
    }

    pub(crate) fn memory(&mut self, of: &str, kind: &str, memory: &Memory) {
        self.memory.push(Composition {
            of: of.to_owned(),
            kind: kind.to_owned(),
            memory: memory.clone(),
        });
    }
}
