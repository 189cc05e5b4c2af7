//! The tables as Markdown.

use super::{Budget, Memory, Report, Row, Unit, Verdict};
use crate::{measure::STEPS, samples::Samples};

impl Report {
    /// Renders the whole report.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.head {
            out += &format!("* {name}: {value}\n");
        }
        if self.quick {
            out += "* few samples (`--quick`): a rough picture\n";
        }
        out += "\n### Ours against the Go shim of the same containerd\n\n\
            Median (min–max). The ratio is of the medians, ours/Go, with its 95 % confidence \
            interval in brackets; a question mark where that interval includes the budget.\n\n\
            | what | containerd | | ours | Go | ratio | budget | |\n\
            |---|---|---|---:|---:|---:|---:|---|\n";
        // Grouped by quantity in the order of measurement, whatever the containerd.
        let mut listed: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !listed.contains(&row.what.as_str()) {
                listed.push(&row.what);
            }
        }
        for what in listed {
            for row in self.rows.iter().filter(|row| row.what == what) {
                out += &line(row);
            }
        }
        out + &self.floor_table()
            + &self.step_tables()
            + &self.memory_table()
            + &self.observed_table()
            + &self.facts()
    }

    fn observed_table(&self) -> String {
        if self.observed.is_empty() {
            return String::new();
        }
        let mut out = "\n### What observation costs the observed, and what other tools cost\n\n\
            Processes per second that a storm starts. Median (min–max), with the named \
            influence and without it; the ratio is the median over pairs of storms that ran one \
            right after the other.\n\n\
            | what | | with | without | ratio | budget | |\n|---|---|---:|---:|---:|---:|---|\n"
            .to_owned();
        for observed in &self.observed {
            let line = line(&observed.as_row());
            // Without the column of the containerd.
            let columns: Vec<&str> = line.split(" | ").collect();
            out += &format!("{} | {}", columns[0], columns[2..].join(" | "));
        }
        out
    }

    fn facts(&self) -> String {
        let lines: String = self.facts.iter().map(|fact| format!("\n* {fact}")).collect();
        lines + "\n"
    }

    fn floor_table(&self) -> String {
        if self.floors.is_empty() {
            return String::new();
        }
        let mut out = "\n### NewTask→Delete compared with the runtime alone: create, start, exit, \
            delete\n\n\
            | runtime | containerd | the runtime alone, ms | ours ÷ alone | Go ÷ alone \
            | ours − alone, ms | Go − alone, ms |\n\
            |---|---|---:|---:|---:|---:|---:|\n"
            .to_owned();
        for floor in &self.floors {
            let (bare, ours, go) =
                (floor.bare.median(), floor.whole.ours.median(), floor.whole.go.median());
            out += &format!(
                "| {} | {} | {} | {:.2} | {:.2} | {:.1} | {:.1} |\n",
                floor.runtime.name(),
                floor.version.name(),
                spread(&floor.bare, Unit::Milliseconds),
                ours / bare,
                go / bare,
                ours - bare,
                go - bare
            );
        }
        out
    }

    /// One column for each containerd and runtime. Ours has values for each containerd, because
    /// each is a separate run.
    fn step_tables(&self) -> String {
        if self.steps.is_empty() {
            return String::new();
        }
        let mut out =
            "\n### What NewTask→Delete is made of, ms (medians; ours / Go)\n\n| step |".to_owned();
        for steps in &self.steps {
            out += &format!(" {} {} |", steps.version.name(), steps.runtime.name());
        }
        out += &format!("\n|---|{}\n", "---:|".repeat(self.steps.len()));
        for (index, step) in STEPS.iter().enumerate() {
            out += &format!("| {step} |");
            for steps in &self.steps {
                let median = |side| {
                    steps.sides.get(side).map_or(f64::NAN, |samples: &[Samples; STEPS.len()]| {
                        samples[index].median()
                    })
                };
                out += &format!(" {:.1} / {:.1} |", median("ours"), median("Go"));
            }
            out += "\n";
        }
        out
    }

    fn memory_table(&self) -> String {
        if self.memory.is_empty() {
            return String::new();
        }
        let mut out = "\n### What the memory is made of, KiB (medians)\n\n| of | shim |".to_owned();
        out += &format!(
            " {} |\n|---|---|{}\n",
            Memory::LINES.join(" | "),
            "---:|".repeat(Memory::LINES.len())
        );
        for composition in &self.memory {
            out += &format!("| {} | {} |", composition.of, composition.kind);
            for samples in &composition.memory.0 {
                out += &format!(" {:.0} |", samples.median());
            }
            out += "\n";
        }
        out
    }
}

fn line(row: &Row) -> String {
    let budget = match row.budget {
        None => String::new(),
        Some(Budget::Ratio(most)) => format!("≤ {most:.2}"),
        Some(Budget::RatioAtLeast(least)) => format!("≥ {least:.2}"),
        Some(Budget::OursAtMost(most)) => {
            format!("ours ≤ {} {}", number(most, row.unit), row.unit.name())
        }
    };
    let verdict = match row.verdict() {
        None => "",
        Some(Verdict { is_kept: true, is_sure: true }) => "ok",
        Some(Verdict { is_kept: true, is_sure: false }) => "ok?",
        Some(Verdict { is_kept: false, is_sure: false }) => "MISSED?",
        Some(Verdict { is_kept: false, is_sure: true }) => "**MISSED**",
    };
    let (ours, go) = (spread(&row.pair.ours, row.unit), spread(&row.pair.go, row.unit));
    let (ratio, (low, high)) = (row.pair.ratio(), row.pair.ratio_interval());
    let (what, version, unit) = (&row.what, row.version.name(), row.unit.name());
    format!(
        "| {what} | {version} | {unit} | {ours} | {go} \
         | {ratio:.2} ({low:.2}–{high:.2}) | {budget} | {verdict} |\n"
    )
}

/// `median (min–max)`.
fn spread(samples: &Samples, unit: Unit) -> String {
    let show = |value| number(value, unit);
    format!("{} ({}–{})", show(samples.median()), show(samples.min()), show(samples.max()))
}

fn number(value: f64, unit: Unit) -> String {
    let decimals = match unit {
        Unit::Milliseconds if value < 100.0 => 1,
        Unit::Seconds => 2,
        Unit::Milliseconds
        | Unit::Kibibytes
        | Unit::MebibytesPerSecond
        | Unit::PerSecond
        | Unit::Count => 0,
    };
    format!("{value:.decimals$}")
}
