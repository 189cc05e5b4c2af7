//! The results as Markdown, and the verdict on all of them.

use std::{fmt::Write as _, fs, path::Path};

use super::{VERSIONS, operation::Operation, results::Report, shortage::Shortage, version_name};

/// Between these lines the page of the table has what [`replace`] writes.
const BEGIN: &str = "<!-- begin: hack/exhaust -->";
const END: &str = "<!-- end: hack/exhaust -->";

/// Whether all results together are good.
pub(super) struct Verdict {
    pub(super) is_good: bool,
    pub(super) summary: String,
}

fn find<'a>(
    reports: &'a [Report],
    containerd: &str,
    shim: &str,
    shortage: Shortage,
    operation: Operation,
) -> Option<&'a Report> {
    reports.iter().find(|report| {
        report.containerd == containerd
            && report.shim == shim
            && report.shortage == shortage.name()
            && report.operation == operation.name()
    })
}

/// One table for each containerd: the shortages by the operations, ours before the Go shim.
pub(super) fn matrix(reports: &[Report]) -> String {
    let mut text = String::new();
    for version in VERSIONS.map(version_name) {
        if !reports.iter().any(|report| report.containerd == version) {
            continue;
        }
        let names = Operation::ALL.map(Operation::name).join(" | ");
        let _ = writeln!(text, "containerd {version}:\n\n| | {names} |");
        let _ = writeln!(text, "|---|{}", "---|".repeat(Operation::ALL.len()));
        for shortage in Shortage::ALL {
            let _ = write!(text, "| {} |", shortage.name());
            for operation in Operation::ALL {
                let mark = |shim| find(reports, version, shim, shortage, operation).map(mark);
                let both = match (mark("ours"), mark("go")) {
                    (Some("–"), _) | (_, Some("–")) => "–".to_owned(),
                    (ours, go) => format!("{} {}", ours.unwrap_or("?"), go.unwrap_or("?")),
                };
                let _ = write!(text, " {both} |");
            }
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

fn mark(report: &Report) -> &'static str {
    match (&report.inapplicable, report.wrong.is_empty(), report.answer.as_str()) {
        (Some(_), ..) => "–",
        (None, false, _) => "✗",
        (None, true, "ok") => "✓",
        (None, true, _) => "e",
    }
}

/// For each shortage, what happened in each cell.
fn details(reports: &[Report]) -> String {
    let mut text = String::new();
    for shortage in Shortage::ALL {
        let of_it: Vec<_> =
            reports.iter().filter(|report| report.shortage == shortage.name()).collect();
        let Some(proof) = of_it.iter().find_map(|report| report.proof.as_ref()) else { continue };
        let _ = writeln!(text, "### {}\n\nProof: `{proof}`.\n", shortage.name());
        text.push_str("| operation | containerd | shim | the client got | exit | wrong, left |\n");
        text.push_str("|---|---|---|---|---|---|\n");
        for operation in Operation::ALL {
            for version in VERSIONS.map(version_name) {
                for shim in ["ours", "go"] {
                    let found = find(reports, version, shim, shortage, operation);
                    text.extend(found.map(row));
                }
            }
        }
        text.push('\n');
    }
    text
}

fn row(report: &Report) -> String {
    let Report { operation, containerd, shim, .. } = report;
    if let Some(why) = &report.inapplicable {
        return format!("| {operation} | {containerd} | {shim} | does not apply: {why} | | |\n");
    }
    let answer = shortened(&report.answer);
    let kinds = report.left.iter().filter_map(|what| what.split(' ').next());
    let mut kinds: Vec<_> = kinds.collect();
    kinds.sort_unstable();
    kinds.dedup();
    let left = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
    let wrong = report.wrong.iter().map(|wrong| shortened(wrong)).collect::<Vec<_>>().join("; ");
    format!(
        "| {operation} | {containerd} | {shim} | {answer}, {} ms | {} | {wrong}{left} |\n",
        report.answer_ms, report.exit
    )
}

/// The beginning of an error, without paths of this run.
fn shortened(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        let path = word.trim_matches(['"', ':', ',', '(', ')']);
        if path.starts_with("/tmp/") || path.starts_with("/run/") { "PATH" } else { word }
    });
    let text = words.collect::<Vec<_>>().join(" ").replace('|', "\\|");
    match text.char_indices().nth(140) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Compares both shims.
pub(super) fn verdict(reports: &[Report]) -> Verdict {
    let exists = |report: &&Report| report.inapplicable.is_none();
    let wrong = |shim: &str| -> Vec<&Report> {
        let of_it = reports.iter().filter(exists).filter(|report| report.shim == shim);
        of_it.filter(|report| !report.wrong.is_empty()).collect()
    };
    let count = |shim: &str| reports.iter().filter(exists).filter(|it| it.shim == shim).count();
    let behind: Vec<_> = reports
        .iter()
        .filter(|report| report.shim == "ours" && report.inapplicable.is_none())
        .filter(|ours| reports.iter().any(|go| is_same_cell(ours, go) && is_behind(ours, go)))
        .collect();
    let mut summary = String::new();
    for shim in ["ours", "go"] {
        let _ = writeln!(summary, "{shim}: {} cells, {} wrong", count(shim), wrong(shim).len());
    }
    let _ = writeln!(summary, "ours behind go: {}", behind.len());
    for report in &behind {
        let _ = writeln!(summary, "  behind: {}", report.line());
    }
    let slow = reports.iter().filter(|report| report.total_ms > 10_000).count();
    let longest = reports.iter().map(|report| report.total_ms).max().unwrap_or(0);
    let _ = write!(summary, "longest cell: {longest} ms; {slow} over 10 s");
    Verdict { is_good: behind.is_empty() && wrong("ours").is_empty(), summary }
}

fn is_same_cell(ours: &Report, go: &Report) -> bool {
    go.shim == "go"
        && ours.containerd == go.containerd
        && ours.shortage == go.shortage
        && ours.operation == go.operation
}

/// Whether ours breaks a rule and Go's does not, or fails where Go's succeeds.
fn is_behind(ours: &Report, go: &Report) -> bool {
    let is_right = |report: &Report| report.wrong.is_empty();
    (!is_right(ours) && is_right(go)) || (ours.answer != "ok" && go.answer == "ok" && is_right(go))
}

/// Replaces the tables of a page.
pub(super) fn replace(page: &Path, reports: &[Report]) {
    let text = fs::read_to_string(page).unwrap_or_else(|error| panic!("{page:?}: {error}"));
    let (before, rest) = text.split_once(BEGIN).expect("the page has the first mark");
    let (_, after) = rest.split_once(END).expect("the page has the second mark");
    let tables = format!(
        "{}## The summary\n\n```text\n{}\n```\n\n## Each cell\n\n{}",
        matrix(reports),
        verdict(reports).summary,
        details(reports)
    );
    fs::write(page, format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", tables.trim_end()))
        .expect("the page is writable");
}
