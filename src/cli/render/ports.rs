//! The output of `lookout ports`: a list of ports, or with `-w` a stream of changes.

use super::{
    gap::gap_text,
    table::shorten_id,
    table::{align_columns, or_dash, pad_row},
};
use crate::{
    api::{Container, ContainerPort, Event, Gap, Owner, Port},
    cli::{args::ListFormat, output::Style},
    client::json,
    model::printable,
};

/// The titles and widths of the columns of `ports -w`. The widths are fixed, because later rows are
/// unknown. The column [`NETNS_TITLE`] is shown with `-o wide` only.
const FOLLOW_COLUMNS: [(&str, usize); 8] = [
    ("STATE", 6),
    ("CONTAINER", 16),
    ("PROTO", 5),
    ("ADDRESS", 24),
    ("SCOPE", 8),
    ("PID", 7),
    (NETNS_TITLE, 10),
    ("PROGRAM", 0),
];

/// The title of the column that shows the inode of the network namespace.
const NETNS_TITLE: &str = "NETNS";

/// Formats open ports as a list.
pub(in crate::cli) fn list(ports: &[ContainerPort], format: ListFormat, style: Style) -> String {
    match format {
        ListFormat::Json => {
            json::to_line(&ports.iter().map(json::OpenPort::from).collect::<Vec<_>>()) + "\n"
        }
        ListFormat::Jsonl => {
            ports.iter().map(|one| json::to_line(&json::OpenPort::from(one)) + "\n").collect()
        }
        ListFormat::Table | ListFormat::Wide if style.is_quiet => {
            ports.iter().map(|one| address_text(one.port.get_or_default()) + "\n").collect()
        }
        ListFormat::Table => {
            let rows: Vec<_> = ports.iter().map(|one| row(one).to_vec()).collect();
            align_columns(
                &["CONTAINER", "PROTO", "ADDRESS", "SCOPE", "PID", "PROGRAM"],
                &rows,
                style,
            )
        }
        ListFormat::Wide => {
            let rows: Vec<_> = ports.iter().map(wide_row).collect();
            let header = [
                "NAMESPACE",
                "CONTAINER",
                "PROTO",
                "ADDRESS",
                "SCOPE",
                NETNS_TITLE,
                "PID",
                "VPID",
                "EXEC",
                "OWNER OF",
                "PROGRAM",
            ];
            align_columns(&header, &rows, style)
        }
    }
}

/// The text that `ports -w` prints before the first port.
pub(in crate::cli) fn header(format: ListFormat, style: Style) -> String {
    if matches!(format, ListFormat::Json | ListFormat::Jsonl) || style.is_quiet {
        return String::new();
    }
    fitted_row(FOLLOW_COLUMNS.map(|(title, _)| title.to_owned()), format, style)
}

/// Formats a port that was open when `ports -w` started.
pub(in crate::cli) fn format_open_port(
    one: &ContainerPort,
    format: ListFormat,
    style: Style,
) -> String {
    match format {
        ListFormat::Json | ListFormat::Jsonl => json::to_line(&json::OpenPort::from(one)) + "\n",
        _ => {
            let (container, port) = (one.container.get_or_default(), one.port.get_or_default());
            change_row("open", container, port, format, style)
        }
    }
}

/// Formats a port that was opened or closed.
pub(in crate::cli) fn format_change(
    event: &Event,
    port: &Port,
    format: ListFormat,
    style: Style,
) -> String {
    match format {
        ListFormat::Json | ListFormat::Jsonl => json::to_line(&json::Event::from(event)) + "\n",
        _ => {
            let state = if event.type_ == "port.open" { "opened" } else { "closed" };
            change_row(state, event.container.get_or_default(), port, format, style)
        }
    }
}

/// Formats a gap as a row among the changes of ports.
pub(in crate::cli) fn format_gap(
    event: &Event,
    gap: &Gap,
    format: ListFormat,
    style: Style,
) -> String {
    if matches!(format, ListFormat::Json | ListFormat::Jsonl) {
        return json::to_line(&json::Event::from(event)) + "\n";
    }
    let mut row: [String; FOLLOW_COLUMNS.len()] = Default::default();
    row[0] = "gap".to_owned();
    row[1] = container_cell(event.container.get_or_default(), style);
    row[FOLLOW_COLUMNS.len() - 1] = gap_text(gap);
    style.highlight_failure(fitted_row(row.map(or_dash), format, style))
}

/// Describes a port in the row of an event. A wide row also has its network namespace.
pub(super) fn port_text(port: &Port, is_wide: bool) -> String {
    let by = port
        .owners
        .first()
        .map(program_text)
        .map_or_else(String::new, |program| format!(" by {program}"));
    let within = port.network_namespace.filter(|_| is_wide);
    let within = within.map_or_else(String::new, |inode| format!(" in netns {inode}"));
    let transport = printable::safe_text(port.transport.as_bytes());
    format!("{transport} {} {}{within}{by}", address_text(port), scope_text(port))
}

fn change_row(
    state: &str,
    container: &Container,
    port: &Port,
    format: ListFormat,
    style: Style,
) -> String {
    let [protocol, address, scope, pid, program] = common_columns(port);
    let container = container_cell(container, style);
    let network = network_namespace_text(port);
    let row = [state.to_owned(), container, protocol, address, scope, pid, network, program];
    fitted_row(row.map(or_dash), format, style)
}

fn container_cell(container: &Container, style: Style) -> String {
    let container = printable::safe_text(container.id.as_bytes());
    if style.width.is_some() { shorten_id(&container, FOLLOW_COLUMNS[1].1) } else { container }
}

fn fitted_row(row: [String; FOLLOW_COLUMNS.len()], format: ListFormat, style: Style) -> String {
    let is_shown = |title: &str| title != NETNS_TITLE || format == ListFormat::Wide;
    let (cells, widths): (Vec<String>, Vec<usize>) = row
        .into_iter()
        .zip(FOLLOW_COLUMNS)
        .filter(|(_, (title, _))| is_shown(title))
        .map(|(cell, (_, width))| (cell, width))
        .unzip();
    style.fit_to_width(&pad_row(&cells, &widths)) + "\n"
}

fn row(one: &ContainerPort) -> [String; 6] {
    let [protocol, address, scope, pid, program] = common_columns(one.port.get_or_default());
    let container = printable::safe_text(one.container.get_or_default().id.as_bytes());
    [container, protocol, address, scope, pid, program].map(or_dash)
}

fn wide_row(one: &ContainerPort) -> Vec<String> {
    let [container, protocol, address, scope, pid, program] = row(one);
    let owners = &one.port.get_or_default().owners;
    let of = |part: fn(&Owner) -> String| or_dash(joined_values(owners, part));
    vec![
        or_dash(printable::safe_text(one.container.get_or_default().namespace.as_bytes())),
        container,
        protocol,
        address,
        scope,
        or_dash(network_namespace_text(one.port.get_or_default())),
        pid,
        of(|owner| owner.vpid.map_or_else(String::new, |vpid| vpid.to_string())),
        of(|owner| printable::safe_text(owner.exec_id.as_bytes())),
        of(|owner| printable::safe_text(owner.container_id.as_bytes())),
        program,
    ]
}

fn common_columns(port: &Port) -> [String; 5] {
    [
        printable::safe_text(port.transport.as_bytes()),
        address_text(port),
        scope_text(port),
        pids_text(port),
        joined_values(&port.owners, program_text),
    ]
}

/// The pids of the owners that are named, and how many more there are.
fn pids_text(port: &Port) -> String {
    let pids = joined_values(&port.owners, |owner| owner.pid.to_string());
    match (port.owners_count.unwrap_or_default() as usize).saturating_sub(port.owners.len()) {
        0 => pids,
        more => format!("{pids} and {more} more"),
    }
}

/// The values of one property of the owners that are named, joined by commas and without
/// duplicates.
fn joined_values(owners: &[Owner], part: fn(&Owner) -> String) -> String {
    let mut parts: Vec<String> = Vec::new();
    for owner in owners {
        let part = part(owner);
        if !part.is_empty() && !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.join(",")
}

fn program_text(owner: &Owner) -> String {
    owner.executable.as_deref().map_or_else(|| "?".to_owned(), printable::safe_text)
}

fn scope_text(port: &Port) -> String {
    let scope = printable::safe_text(port.scope.as_bytes());
    if port.dual_stack { format!("{scope}+v4") } else { scope }
}

fn network_namespace_text(port: &Port) -> String {
    port.network_namespace.map_or_else(String::new, |inode| inode.to_string())
}

fn address_text(port: &Port) -> String {
    let address = printable::safe_text(port.address.as_bytes());
    if port.type_ == "ipv6" {
        format!("[{address}]:{}", port.port)
    } else {
        format!("{address}:{}", port.port)
    }
}
