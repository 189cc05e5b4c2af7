//! The tables.

use super::{Budget, Memory, Report, Row, Unit, Verdict};
use crate::{measure::STEPS, samples::Samples};

impl Report {
    /// All of it.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.head {
            out += &format!("* {name}: {value}\n");
        }
        if self.quick {
            out += "* few samples (`--quick`): a rough picture\n";
        }
        out += "\n### Ours against the Go shim of the same containerd\n\n\
            Median (min–max). The ratio is of the medians, ours/Go; in brackets, where it is in 95 of 100 cases; \
            a question mark where that includes the budget.\n\n";
        out += "| what | containerd | | ours | Go | ratio | budget | |\n|---|---|---|---:|---:|---:|---:|---|\n";
        // Sorted by what was measured first, whatever the containerd.
        let mut told: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !told.contains(&row.what.as_str()) {
                told.push(&row.what);
            }
        }
        for what in told {
            for row in self.rows.iter().filter(|row| row.what == what) {
                out += &line(row);
            }
        }
        out + &self.floor_table()
            + &self.step_tables()
            + &self.memory_table()
            + &self.watching_table()
            + &self.facts()
    }

    fn watching_table(&self) -> String {
        if self.watching.is_empty() {
            return String::new();
        }
        let mut out = "\n### What watching costs the watched, and what else would\n\n\
            Processes a second that a storm makes. Median (min–max), with what is named and without; the ratio is the \
            median of those of pairs that were taken one right after the other.\n\n\
            | what | | with | without | ratio | budget | |\n|---|---|---:|---:|---:|---:|---|\n"
            .to_owned();
        for watching in &self.watching {
            let line = line(&watching.as_row());
            // All but the column of the containerd.
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
        let mut out =
            "\n### NewTask→Delete by the floor: create, start, exit, delete by the runtime alone\n\n".to_owned();
        out += "| runtime | containerd | \
            the runtime alone, ms | ours ÷ alone | Go ÷ alone | ours − alone, ms | Go − alone, ms |\n\
            |---|---|---:|---:|---:|---:|---:|\n";
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

    /// One column a shim; ours beside each containerd, because each is another run.
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
        "| {what} | {version} | {unit} | {ours} | {go} | {ratio:.2} ({low:.2}–{high:.2}) | {budget} | {verdict} |\n"
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
