//! All that is known of the selected process, in lines of the terminal's width.

use unicode_truncate::UnicodeTruncateStr as _;

use crate::{
    api::{Container, Port, Process},
    cli::{
        clock::short_duration,
        output::Style,
        render::{
            events::{command_text, origin_text},
            ports::port_text,
        },
        top::{
            state::State,
            tree::{Row, RowId},
        },
    },
    model::printable,
};

/// The width of the names of fields.
const NAME_WIDTH: usize = 11;

/// The title, and as many lines as there are, from the one to which the user has scrolled.
pub(super) fn page(
    state: &State,
    style: Style,
    count: usize,
) -> (&'static str, Vec<(String, bool)>) {
    let lines = match state.selected_row() {
        Some(Row { id: RowId::Process(entity_id), .. }) => match state.data.process(entity_id) {
            Some((container, process, ports)) => {
                process_lines(state, style, container.as_ref(), process, &ports)
            }
            None => vec!["the process has ended".to_owned()],
        },
        Some(Row { id: RowId::Container(namespace, id), .. }) => {
            let text = |text: &str| printable::safe_text(text.as_bytes());
            [wrapped("container", &text(id), style), wrapped("namespace", &text(namespace), style)]
                .concat()
        }
        _ => Vec::new(),
    };
    let first = state.details_first.min(lines.len().saturating_sub(count));
    let title = if lines.len() > count { "details: < > scroll" } else { "details" };
    (title, lines.into_iter().skip(first).take(count).map(|line| (line, false)).collect())
}

fn process_lines(
    state: &State,
    style: Style,
    container: Option<&Container>,
    process: &Process,
    ports: &[&Port],
) -> Vec<String> {
    let bytes = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(printable::safe_text);
    let started = (process.created_ns > 0).then(|| {
        let ago = short_duration(state.now_ns.saturating_sub(process.created_ns));
        format!("{}, {ago} ago", style.clock.date_and_time(process.created_ns))
    });
    let parent = match (process.parent_pid, process.parent.as_ref()) {
        (0, None) => None,
        (0, Some(parent)) => Some((parent.pid, bytes(&parent.executable))),
        (pid, Some(parent)) if parent.pid == pid => Some((pid, bytes(&parent.executable))),
        (pid, _) => Some((pid, None)),
    };
    let parent = parent.map(|(pid, path)| format!("{pid} {}", path.unwrap_or_default()));
    let vpid = process.vpid.map_or_else(String::new, |vpid| format!(" ({vpid} in the container)"));
    let user = process.uid.map(|uid| match process.gid {
        Some(gid) => format!("{uid}, group {gid}"),
        None => uid.to_string(),
    });
    let ports: Vec<String> = ports.iter().map(|port| port_text(port, true)).collect();
    let text = |text: &str| (!text.is_empty()).then(|| printable::safe_text(text.as_bytes()));
    [
        ("argv", Some(command_text(process))),
        ("executable", bytes(&process.executable)),
        ("directory", bytes(&process.working_directory)),
        ("pid", Some(format!("{}{vpid}", process.pid))),
        ("parent", parent),
        ("started", started),
        ("user", user),
        ("origin", Some(origin_text(process))),
        ("exec id", text(&process.exec_id)),
        ("container", container.and_then(|container| text(&container.id))),
        ("cgroup", text(&process.cgroup)),
        ("ports", (!ports.is_empty()).then(|| ports.join(", "))),
        ("entity id", text(&process.entity_id)),
    ]
    .into_iter()
    .filter_map(|(name, text)| Some(wrapped(name, text.as_deref()?.trim_end(), style)))
    .flatten()
    .collect()
}

/// A field in as many lines as it needs.
fn wrapped(name: &str, text: &str, style: Style) -> Vec<String> {
    let width = style.width.unwrap_or(80).saturating_sub(NAME_WIDTH).max(10);
    let mut lines = Vec::new();
    let mut rest = text;
    let mut name = name;
    loop {
        let (part, _) = rest.unicode_truncate(width);
        lines.push(format!("{name:<NAME_WIDTH$}{part}"));
        // A character that is wider than the line would never fit.
        if part.len() == rest.len() || part.is_empty() {
            return lines;
        }
        (rest, name) = (&rest[part.len()..], "");
    }
}
