//! The results, as Markdown for people and as JSON for programs.

mod json;
mod markdown;

use std::collections::BTreeMap;

use crate::{
    measure::STEPS,
    samples::{Pair, Samples},
    workspace::{Runtime, Version},
};

/// All results of one run.
pub(crate) struct Report {
    head: Vec<(&'static str, String)>,
    quick: bool,
    rows: Vec<Row>,
    floors: Vec<Floor>,
    steps: Vec<Steps>,
    memory: Vec<Composition>,
    observed: Vec<ObservedRow>,
    facts: Vec<String>,
}

/// One quantity of an observed container, compared with one that is not observed.
struct ObservedRow {
    what: String,
    unit: Unit,
    /// Samples with the measured influence, and without it.
    pair: Pair,
    budget: Option<Budget>,
}

/// One quantity of both shims.
struct Row {
    what: String,
    version: Version,
    unit: Unit,
    pair: Pair,
    budget: Option<Budget>,
}

/// NewTask to Delete, and the same by the runtime alone.
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

/// The parts of a shim's memory.
struct Composition {
    of: String,
    kind: String,
    memory: Memory,
}

/// Memory of processes, in KiB: the lines of smaps_rollup that make up the proportional set size
/// (PSS).
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory([Samples; Memory::LINES.len()]);

impl Memory {
    const LINES: [&str; 6] = ["Pss", "Pss_Anon", "Pss_File", "Pss_Shmem", "Private_Dirty", "Rss"];

    /// Adds the lines of one process's smaps_rollup.
    pub(crate) fn push(&mut self, lines: &BTreeMap<String, f64>) {
        for (name, samples) in Self::LINES.iter().zip(&mut self.0) {
            samples.extend(lines.get(*name).copied());
        }
    }

    /// The samples of one line, or of the first line if `line` is unknown.
    pub(crate) fn of(&self, line: &str) -> &Samples {
        let index = Self::LINES.iter().position(|name| *name == line).unwrap_or_default();
        &self.0[index]
    }
}

/// The unit of a number.
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

/// The promised limit of a quantity (`DESIGN.md` §8).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Budget {
    /// Our median is at most this many times Go's.
    Ratio(f64),
    /// Our median is at least this many times Go's.
    RatioAtLeast(f64),
    /// Our largest sample is at most this, independent of Go's.
    OursAtMost(f64),
}

impl ObservedRow {
    fn as_row(&self) -> Row {
        let (what, pair) = (self.what.clone(), self.pair.clone());
        Row { what, version: Version::V1_7, unit: self.unit, pair, budget: self.budget }
    }
}

impl Row {
    /// Whether the budget is kept, at the two decimals that are shown, and whether the samples
    /// suffice to decide it; `None` without a budget.
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

/// The result of a row's budget.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    is_kept: bool,
    /// Whether the budget lies outside the interval of the ratio, so that the verdict is certain.
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
            observed: Vec::new(),
            facts: Vec::new(),
        }
    }

    /// Adds a line about the machine.
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

    /// Adds a quantity of an observed container, with and without the measured influence.
    pub(crate) fn observed(&mut self, what: &str, unit: Unit, pair: Pair, budget: Option<Budget>) {
        self.observed.push(ObservedRow { what: what.to_owned(), unit, pair, budget });
    }

    /// Adds a line below the tables.
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
