//! The output of `lookout ports`: a list, or a stream of changes.

use super::{
    gap::lost,
    table::shortened,
    table::{columns, or_dash, padded},
};
use crate::{
    api::{Container, ContainerPort, Event, Gap, Owner, Port},
    cli::{args::ListFormat, output::Style},
    client::json,
    model::printable,
};

/// The columns of a stream. Their widths are fixed, because later rows are unknown. [`NETNS`] is
/// shown with `-o wide` only.
const FOLLOWED: [(&str, usize); 8] = [
    ("STATE", 6),
    ("CONTAINER", 16),
    ("PROTO", 5),
    ("ADDRESS", 24),
    ("SCOPE", 8),
    ("PID", 7),
    (NETNS, 10),
    ("PROGRAM", 0),
];

/// The title of the column with the network namespace.
const NETNS: &str = "NETNS";

/// Formats open ports as a list.
pub(in crate::cli) fn list(ports: &[ContainerPort], format: ListFormat, style: Style) -> String {
    match format {
        ListFormat::Json => {
            json::line(&ports.iter().map(json::OpenPort::from).collect::<Vec<_>>()) + "\n"
        }
        ListFormat::Jsonl => {
            ports.iter().map(|one| json::line(&json::OpenPort::from(one)) + "\n").collect()
        }
        ListFormat::Table | ListFormat::Wide if style.is_quiet => {
            ports.iter().map(|one| address(one.port.get_or_default()) + "\n").collect()
        }
        ListFormat::Table => {
            let rows: Vec<_> = ports.iter().map(|one| row(one).to_vec()).collect();
            columns(&["CONTAINER", "PROTO", "ADDRESS", "SCOPE", "PID", "PROGRAM"], &rows, style)
        }
        ListFormat::Wide => {
            let rows: Vec<_> = ports.iter().map(wide_row).collect();
            let header = [
                "NAMESPACE",
                "CONTAINER",
                "PROTO",
                "ADDRESS",
                "SCOPE",
                NETNS,
                "PID",
                "VPID",
                "EXEC",
                "OWNER OF",
                "PROGRAM",
            ];
            columns(&header, &rows, style)
        }
    }
}

/// The text that `ports -w` prints before the first port.
pub(in crate::cli) fn header(format: ListFormat, style: Style) -> String {
    if matches!(format, ListFormat::Json | ListFormat::Jsonl) || style.is_quiet {
        return String::new();
    }
    followed_row(FOLLOWED.map(|(title, _)| title.to_owned()), format, style)
}

/// Formats a port that was open when `ports -w` started.
pub(in crate::cli) fn initial(one: &ContainerPort, format: ListFormat, style: Style) -> String {
    match format {
        ListFormat::Json | ListFormat::Jsonl => json::line(&json::OpenPort::from(one)) + "\n",
        _ => {
            let (container, port) = (one.container.get_or_default(), one.port.get_or_default());
            followed("open", container, port, format, style)
        }
    }
}

/// Formats a port that was opened or closed.
pub(in crate::cli) fn change(
    event: &Event,
    port: &Port,
    format: ListFormat,
    style: Style,
) -> String {
    match format {
        ListFormat::Json | ListFormat::Jsonl => json::line(&json::Event::from(event)) + "\n",
        _ => {
            let state = if event.type_ == "port.open" { "opened" } else { "closed" };
            followed(state, event.container.get_or_default(), port, format, style)
        }
    }
}

/// Formats a gap among the changes.
pub(in crate::cli) fn gap(event: &Event, gap: &Gap, format: ListFormat, style: Style) -> String {
    if matches!(format, ListFormat::Json | ListFormat::Jsonl) {
        return json::line(&json::Event::from(event)) + "\n";
    }
    let mut row: [String; FOLLOWED.len()] = Default::default();
    row[0] = "gap".to_owned();
    row[1] = followed_container(event.container.get_or_default(), style);
    row[FOLLOWED.len() - 1] = lost(gap);
    style.highlight(followed_row(row.map(or_dash), format, style))
}

/// Describes a port in the row of an event, in a wide row with its network namespace.
pub(super) fn detail(port: &Port, is_wide: bool) -> String {
    let by = port
        .owners
        .first()
        .map(program)
        .map_or_else(String::new, |program| format!(" by {program}"));
    let within = port.network_namespace.filter(|_| is_wide);
    let within = within.map_or_else(String::new, |inode| format!(" in netns {inode}"));
    let transport = printable::text(port.transport.as_bytes());
    format!("{transport} {} {}{within}{by}", address(port), scope(port))
}

fn followed(
    state: &str,
    container: &Container,
    port: &Port,
    format: ListFormat,
    style: Style,
) -> String {
    let [protocol, address, scope, pid, program] = common_columns(port);
    let container = followed_container(container, style);
    let network = network_namespace(port);
    let row = [state.to_owned(), container, protocol, address, scope, pid, network, program];
    followed_row(row.map(or_dash), format, style)
}

fn followed_container(container: &Container, style: Style) -> String {
    let container = printable::text(container.id.as_bytes());
    if style.width.is_some() { shortened(&container, FOLLOWED[1].1) } else { container }
}

fn followed_row(row: [String; FOLLOWED.len()], format: ListFormat, style: Style) -> String {
    let is_shown = |title: &str| title != NETNS || format == ListFormat::Wide;
    let (cells, widths): (Vec<String>, Vec<usize>) = row
        .into_iter()
        .zip(FOLLOWED)
        .filter(|(_, (title, _))| is_shown(title))
        .map(|(cell, (_, width))| (cell, width))
        .unzip();
    style.fit(&padded(&cells, &widths)) + "\n"
}

fn row(one: &ContainerPort) -> [String; 6] {
    let [protocol, address, scope, pid, program] = common_columns(one.port.get_or_default());
    let container = printable::text(one.container.get_or_default().id.as_bytes());
    [container, protocol, address, scope, pid, program].map(or_dash)
}

fn wide_row(one: &ContainerPort) -> Vec<String> {
    let [container, protocol, address, scope, pid, program] = row(one);
    let owners = &one.port.get_or_default().owners;
    let of = |part: fn(&Owner) -> String| or_dash(listed(owners, part));
    vec![
        or_dash(printable::text(one.container.get_or_default().namespace.as_bytes())),
        container,
        protocol,
        address,
        scope,
        or_dash(network_namespace(one.port.get_or_default())),
        pid,
        of(|owner| owner.vpid.map_or_else(String::new, |vpid| vpid.to_string())),
        of(|owner| printable::text(owner.exec_id.as_bytes())),
        of(|owner| printable::text(owner.container_id.as_bytes())),
        program,
    ]
}

fn common_columns(port: &Port) -> [String; 5] {
    [
        printable::text(port.transport.as_bytes()),
        address(port),
        scope(port),
        listed(&port.owners, |owner| owner.pid.to_string()),
        listed(&port.owners, program),
    ]
}

/// One property of all owners, without duplicates.
fn listed(owners: &[Owner], part: fn(&Owner) -> String) -> String {
    let mut parts: Vec<String> = Vec::new();
    for owner in owners {
        let part = part(owner);
        if !part.is_empty() && !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.join(",")
}

fn program(owner: &Owner) -> String {
    owner.executable.as_deref().map_or_else(|| "?".to_owned(), printable::text)
}

fn scope(port: &Port) -> String {
    let scope = printable::text(port.scope.as_bytes());
    if port.dual_stack { format!("{scope}+v4") } else { scope }
}

fn network_namespace(port: &Port) -> String {
    port.network_namespace.map_or_else(String::new, |inode| inode.to_string())
}

fn address(port: &Port) -> String {
    let address = printable::text(port.address.as_bytes());
    if port.type_ == "ipv6" {
        format!("[{address}]:{}", port.port)
    } else {
        format!("{address}:{}", port.port)
    }
}
