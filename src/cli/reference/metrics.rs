//! Generates docs/reference/metrics.md, from the text that the daemon serves to a scraper.

use std::collections::{BTreeMap, BTreeSet};

use super::{as_code, markdown_table, page_head};
use crate::{
    api::{Event, Gap, event::Body},
    daemon::{
        label_usage::{LabelUsage, OTHER, SAMPLED_MAX, SERIES_MAX, UsageByLabel},
        metrics::{Metrics, ScrapeValues},
    },
};

/// What the OpenMetrics text has about one metric.
#[derive(Default)]
struct MetricRow {
    kind: String,
    help: String,
    samples: BTreeSet<String>,
}

pub(super) fn page() -> String {
    let rows = read_metrics().into_values().map(|MetricRow { kind, help, samples }| {
        let samples: Vec<String> = samples.iter().map(|sample| as_code(sample)).collect();
        [samples.join(", "), kind, help]
    });
    page_head("Metrics")
        + "The metrics that [the daemon](../daemon.md) serves as OpenMetrics text. No label has a \
           pid, an argument or\na name that a container chose.\n\n"
        + &format!(
            "The labels `tag` and `group` are those of registered processes. At most {SERIES_MAX} \
             tags and {SERIES_MAX} groups have a\nseries of their own, for as long as a living \
             process has them: those that came first, and among those that\ncome together those \
             with the most processes. All others are in the series `{OTHER}`, also a tag of that \
             name. A\nprocess with two tags is in both series, so the sum of all series is no \
             total.\n\n\
             The processes are sampled at each scrape, at most {SAMPLED_MAX} of them, without \
             their descendants. A counter grows by\nwhat the processes have used since the scrape \
             before; what one uses after the last scrape before its end is not\ncounted. It begins \
             at 0 with the daemon, and with its series.\n\n"
        )
        + &markdown_table(["metric", "type", "meaning"], rows)
}

/// Reads the metrics from the text of a daemon that has received one gap: a counter with labels has
/// no samples before the first event.
fn read_metrics() -> BTreeMap<String, MetricRow> {
    let metrics = Metrics::default();
    let gap = Gap { stage: "kernel".into(), ..Default::default() };
    let type_ = "observer.gap".into();
    metrics.count_event(&Event { type_, body: Some(Body::Gap(gap)), ..Default::default() });
    let one = || BTreeMap::from([(OTHER.to_owned(), LabelUsage::default())]);
    let usage = UsageByLabel { tags: one(), groups: one() };
    let text = metrics.openmetrics_text(&ScrapeValues { usage, ..Default::default() });
    let mut found: BTreeMap<String, MetricRow> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(help)) => {
                found.entry(name.to_owned()).or_default().help = help.to_owned();
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                found.entry(name.to_owned()).or_default().kind = kind.to_owned();
            }
            (Some("#"), ..) => {}
            (Some(sample), ..) => {
                // A label has many values, so the page shows only the name of the label.
                let label = sample.split_once('{').and_then(|(_, label)| label.split_once('='));
                let name = sample.split('{').next().unwrap_or_default();
                let shown = label
                    .map_or_else(|| name.to_owned(), |(label, _)| format!("{name}{{{label}=…}}"));
                let metric =
                    found.iter_mut().rfind(|(metric, _)| name.starts_with(metric.as_str()));
                metric.expect("HELP comes before the samples").1.samples.insert(shown);
            }
            _ => {}
        }
    }
    found
}
