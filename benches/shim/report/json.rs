//! All samples as JSON, for programs.

use serde_json::{Map, Value, json};

use super::{Budget, Memory, Report, Row};
use crate::{measure::STEPS, samples::Samples};

impl Report {
    /// Renders the report as one object with a field for each table.
    pub(crate) fn json(&self) -> String {
        let head: Map<String, Value> =
            self.head.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let floors = self.floors.iter().map(|floor| {
            json!({
                "runtime": floor.runtime.name(), "containerd": floor.version.name(), "unit": "ms",
                "alone": samples(&floor.bare), "ours": samples(&floor.whole.ours),
                "go": samples(&floor.whole.go),
            })
        });
        let steps = self.steps.iter().flat_map(|steps| {
            steps.sides.iter().map(|(side, parts)| {
                let parts = STEPS.iter().zip(parts);
                let parts: Map<String, Value> =
                    parts.map(|(step, part)| ((*step).to_owned(), samples(part))).collect();
                let (runtime, version) = (steps.runtime.name(), steps.version.name());
                json!({
                    "runtime": runtime, "containerd": version, "side": side, "unit": "ms",
                    "steps": parts,
                })
            })
        });
        let memory = self.memory.iter().map(|composition| {
            let lines: Map<String, Value> = Memory::LINES
                .iter()
                .map(|line| ((*line).to_owned(), samples(composition.memory.of(line))))
                .collect();
            json!({ "of": composition.of, "shim": composition.kind, "unit": "KiB", "lines": lines })
        });
        let observed = self.observed.iter().map(|observed| row(&observed.as_row()));
        let report = json!({
            "machine": head,
            "quick": self.quick,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "floors": floors.collect::<Vec<_>>(),
            "steps": steps.collect::<Vec<_>>(),
            "memory": memory.collect::<Vec<_>>(),
            "watching": observed.collect::<Vec<_>>(),
            "facts": self.facts,
        });
        format!("{report:#}\n")
    }
}

fn row(row: &Row) -> Value {
    let budget = row.budget.map(|budget| match budget {
        Budget::Ratio(most) => json!({ "ratio_at_most": most }),
        Budget::RatioAtLeast(least) => json!({ "ratio_at_least": least }),
        Budget::OursAtMost(most) => json!({ "ours_at_most": most }),
    });
    json!({
        "what": row.what, "containerd": row.version.name(), "unit": row.unit.name(),
        "ours": samples(&row.pair.ours), "go": samples(&row.pair.go),
        "ratio": row.pair.ratio(), "ratio_interval": row.pair.ratio_interval(), "budget": budget,
        "kept": row.verdict().map(|verdict| verdict.is_kept),
        "sure": row.verdict().map(|verdict| verdict.is_sure),
    })
}

fn samples(samples: &Samples) -> Value {
    json!({
        "median": samples.median(), "min": samples.min(), "max": samples.max(),
        "samples": samples.all(),
    })
}
