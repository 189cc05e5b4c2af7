//! `lookout report -o md`: for a pull request, the summary of a job, or a terminal.
//!
//! Texts that a container chose are in `<code>` with every character replaced that Markdown or HTML
//! could read as more than text, or in a fenced block, in which nothing is read.

use super::{
    model::{Port, Process, Report, State},
    tree,
};
use crate::{
    cli::clock::short_duration,
    model::{printable::safe_text, rfc3339},
};

/// How many rows the tree, and each table, has.
const TREE_ROWS: usize = 300;
const TABLE_ROWS: usize = 100;
/// How many levels of the tree are indented.
const DEPTH_MAX: usize = 24;
/// How many characters of a command are printed.
const COMMAND_MAX: usize = 200;

/// Formats the report.
pub(super) fn page(report: &Report) -> String {
    let mut page = Page { text: String::new(), report };
    page.header();
    page.failures();
    page.tree();
    page.ports();
    page.gaps();
    page.account();
    page.text
}

struct Page<'a> {
    text: String,
    report: &'a Report,
}

impl Page<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn header(&mut self) {
        let Report { container, counts, .. } = self.report;
        self.line(&format!("## Container {}\n", code(&self.report.title())));
        let mut rows =
            vec![("Container", code(&format!("{}/{}", container.namespace, container.id)))];
        if !container.pod.is_empty() {
            rows.push(("Pod", code(&format!("{}/{}", container.k8s_namespace, container.pod))));
        }
        let end = if self.report.is_running { ", still running" } else { "" };
        let (from, to) = (rfc3339(self.report.from.0), rfc3339(self.report.to.0));
        rows.push(("Time", format!("{from} to {to}")));
        rows.push(("Duration", format!("{}{end}", short_duration(self.report.duration_ns))));
        let init = self.report.init.map(|id| &self.report.processes[id]);
        rows.push((
            "First process",
            init.map_or("not seen".to_owned(), |init| code(&init.status_text())),
        ));
        rows.push((
            "Processes",
            format!("{}, of which {} failed", counts.processes, counts.failures),
        ));
        rows.push(("Execs", counts.execs.to_string()));
        rows.push(("Ports", counts.ports.to_string()));
        rows.push(("Gaps", counts.gaps.to_string()));
        self.line("| | |\n|---|---|");
        for (name, value) in rows {
            self.line(&format!("| {name} | {value} |"));
        }
    }

    fn failures(&mut self) {
        let failures: Vec<&Process> = self.report.failures().collect();
        self.line(&format!("\n### Failures: {}\n", failures.len()));
        if failures.is_empty() {
            return;
        }
        self.line(
            "| status | command | pid | origin | start | duration |\n|---|---|---|---|---|---|",
        );
        for process in failures.iter().take(TABLE_ROWS) {
            let (status, command) = (code(&process.status_text()), code(&command(process)));
            let (pid, origin) = (process.pid, code(&process.origin_text()));
            let (start, took) = (self.report.offset(process.start), duration(process.duration_ns));
            self.line(&format!("| {status} | {command} | {pid} | {origin} | {start} | {took} |"));
        }
        self.left_out(failures.len(), TABLE_ROWS);
    }

    fn tree(&mut self) {
        let all = self.report.processes.len();
        self.line(&format!("\n### Processes: {all}\n"));
        let rows = tree::chosen(&self.report.processes, TREE_ROWS);
        if rows.is_empty() {
            return;
        }
        // A line of the block begins with a start, so none can end it.
        self.line("````text");
        self.line("       START  DURATION  STATUS          PROCESS");
        for process in &rows {
            let indent = "  ".repeat(process.depth.min(DEPTH_MAX));
            let deeper = if process.depth > DEPTH_MAX { "… " } else { "" };
            let origin = match process.origin_in_tree() {
                none if none.is_empty() => none,
                origin => format!(" [{}]", safe_text(origin.as_bytes())),
            };
            let line = format!(
                "{:>12}  {:>8}  {:<14}  {indent}{deeper}{}{origin} {}",
                self.report.offset(process.start),
                duration(process.duration_ns),
                safe_text(process.status_text().as_bytes()),
                process.pid,
                command(process),
            );
            self.line(&line);
        }
        self.line("````");
        self.left_out(all, rows.len());
    }

    fn ports(&mut self) {
        let ports = &self.report.ports;
        if ports.is_empty() {
            return;
        }
        self.line(&format!("\n### Ports: {}\n", ports.len()));
        self.line("| port | scope | open | close | pid | program |\n|---|---|---|---|---|---|");
        for port in ports.iter().take(TABLE_ROWS) {
            let owner = port.owners.first();
            let pid = owner.map_or("-".to_owned(), |owner| owner.pid.to_string());
            let program = owner.and_then(|owner| owner.executable.as_deref());
            self.line(&format!(
                "| {} | {} | {} | {} | {pid} | {} |",
                code(&port.endpoint()),
                code(&port.scope),
                self.report.offset(port.open),
                self.close_text(port),
                program.map_or("-".to_owned(), code),
            ));
        }
        self.left_out(ports.len(), TABLE_ROWS);
    }

    fn close_text(&self, port: &Port) -> String {
        match (port.state, port.close) {
            (State::Running, _) => "open".to_owned(),
            (_, Some(close)) => self.report.offset(Some(close)),
            (_, None) => "not seen".to_owned(),
        }
    }

    fn gaps(&mut self) {
        let gaps = &self.report.gaps;
        if gaps.is_empty() {
            return;
        }
        self.line(&format!("\n### Gaps: {}\n\nEvents are missing here.\n", gaps.len()));
        self.line("| from | to | lost | stage |\n|---|---|---|---|");
        for gap in gaps.iter().take(TABLE_ROWS) {
            let (from, to) = (self.report.offset(Some(gap.from)), self.report.offset(Some(gap.to)));
            self.line(&format!("| {from} | {to} | {} | {} |", gap.lost_text(), code(&gap.stage)));
        }
        self.left_out(gaps.len(), TABLE_ROWS);
    }

    fn account(&mut self) {
        self.line("\n### Account\n");
        for account in &self.report.accounts {
            self.line(&format!("- {} ({})", account.sum(), rfc3339(account.closed.0)));
        }
        if self.report.accounts.is_empty() {
            let events = self.report.counts.events;
            self.line(&format!(
                "{events} events, and no account: it comes when the container is deleted."
            ));
        }
    }

    fn left_out(&mut self, all: usize, shown: usize) {
        if all > shown {
            let more = all - shown;
            self.line(&format!("\n{more} more are left out; `-o json` has all of them."));
        }
    }
}

fn duration(ns: Option<u64>) -> String {
    ns.map_or("-".to_owned(), short_duration)
}

/// The command line, cut, and marked if it is the parent's.
fn command(process: &Process) -> String {
    let command = &process.program.command;
    let cut = match command.char_indices().nth(COMMAND_MAX) {
        Some((end, _)) => format!("{}…", &command[..end]),
        None => command.clone(),
    };
    if process.is_fork { format!("(fork) {cut}") } else { cut }
}

/// A text as code, in a cell of a table or in a line. A code span of Markdown would not do: in a
/// table it has no unambiguous form for a backslash before a `|`.
fn code(text: &str) -> String {
    let text = safe_text(text.as_bytes());
    let mut out = String::from("<code>");
    for (at, character) in text.char_indices() {
        let is_link = match character {
            // GitHub makes links of `http://` and `www.` also in HTML.
            ':' => text[at..].starts_with("://"),
            '.' => at >= 3 && text.as_bytes()[at - 3..at].eq_ignore_ascii_case(b"www"),
            _ => false,
        };
        match is_link || r"\`*_{}[]<>&|~$@".contains(character) {
            true => out.push_str(&format!("&#{};", u32::from(character))),
            false => out.push(character),
        }
    }
    out + "</code>"
}

#[cfg(test)]
mod tests {
    use super::code;

    /// Check that nothing of a text is markup, a link, a mention or the end of a cell.
    #[test]
    fn a_text_is_nothing_but_text() {
        assert_eq!(
            code("a|b `c` <i> \\| @me x_y http://z www.w\nv"),
            "<code>a&#124;b &#96;c&#96; &#60;i&#62; &#92;&#92;&#124; &#64;me x&#95;y \
             http&#58;//z www&#46;w&#92;nv</code>"
        );
        assert_eq!(code("make -j4 a.c"), "<code>make -j4 a.c</code>");
    }
}
