//! The results: one line of JSON for each cell, in a file that a run can continue.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{cell::Cell, version_name};

/// What happened in a cell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) containerd: String,
    pub(super) shim: String,
    pub(super) shortage: String,
    pub(super) operation: String,
    /// Why the cell does not exist; absent if it does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) inapplicable: Option<String>,
    /// What failed for want of what is lacking.
    pub(super) proof: Option<String>,
    /// `ok`, or the error that the client got.
    pub(super) answer: String,
    pub(super) answer_ms: u64,
    /// How often State was called, and its times.
    pub(super) states: usize,
    pub(super) state_median_ms: u64,
    pub(super) state_worst_ms: u64,
    /// When the exit came.
    pub(super) exit: String,
    /// What was left after everything was removed.
    pub(super) left: Vec<String>,
    /// The rules that were broken.
    pub(super) wrong: Vec<String>,
    /// Of the whole cell, with its containerd.
    pub(super) total_ms: u64,
}

impl Report {
    pub(super) fn of(cell: &Cell) -> Self {
        Self {
            containerd: version_name(cell.version).to_owned(),
            shim: cell.shim.name().to_owned(),
            shortage: cell.shortage.name().to_owned(),
            operation: cell.operation.name().to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn is_of(&self, cell: &Cell) -> bool {
        self.containerd == version_name(cell.version)
            && self.shim == cell.shim.name()
            && self.shortage == cell.shortage.name()
            && self.operation == cell.operation.name()
    }

    /// One line for a person.
    pub(super) fn line(&self) -> String {
        let Self { containerd, shim, shortage, operation, .. } = self;
        let cell = format!("{containerd} {shim:4} {shortage:15} {operation:11}");
        if let Some(why) = &self.inapplicable {
            return format!("{cell} does not apply: {why}");
        }
        let verdict = if self.wrong.is_empty() { "right" } else { "WRONG" };
        let wrong = self.wrong.join("; ");
        let left = self.left.join("; ");
        format!(
            "{cell} {verdict} client: {} ({} ms); exit {}; State {}/{} ms; {} ms; {wrong} {left}",
            self.answer,
            self.answer_ms,
            self.exit,
            self.state_median_ms,
            self.state_worst_ms,
            self.total_ms
        )
    }
}

/// The file of results, open for more.
pub(super) struct Results {
    file: File,
    reports: Vec<Report>,
    done: Vec<Report>,
}

impl Results {
    /// Opens the file. Unless `LOOKOUT_EXHAUST_CONTINUE` is set, the results of these cells are
    /// forgotten; those of other cells stay.
    pub(super) fn open(path: &Path, cells: &VecDeque<Cell>) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        // The last line of a run that was killed may be incomplete.
        let mut reports: Vec<Report> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let continues = std::env::var("LOOKOUT_EXHAUST_CONTINUE").is_ok_and(|it| !it.is_empty());
        if !continues {
            reports.retain(|report| !cells.iter().any(|cell| report.is_of(cell)));
        }
        let done = reports.clone();
        let file = File::create(path).expect("the directory of results is writable");
        let mut results = Self { file, reports: Vec::new(), done };
        reports.into_iter().for_each(|report| results.add(report));
        results
    }

    /// Whether an earlier run has done this cell.
    pub(super) fn has(&self, cell: &Cell) -> bool {
        self.done.iter().any(|report| report.is_of(cell))
    }

    pub(super) fn add(&mut self, report: Report) {
        let line = serde_json::to_string(&report).expect("strings and numbers");
        writeln!(self.file, "{line}").expect("the results can be written");
        self.reports.push(report);
    }

    pub(super) fn reports(&self) -> &[Report] {
        &self.reports
    }
}
