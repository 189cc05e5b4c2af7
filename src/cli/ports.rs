//! `lookout ports`: prints the open ports of containers, and with `-w` the ports that open and
//! close.

use std::{collections::HashMap, io, ops::ControlFlow};

use futures::future::join_all;

use super::{
    args::{ContainerOptions, PortsArgs},
    connect_to_daemon,
    exit::{Exit, Failure},
    hint_if_empty,
    output::{Output, Style},
    print_message,
    render::ports::{self as render, PortRows},
    rows::select_and_sort,
    select::Scope,
    shim_set::ShimSet,
    stream::{self, EventSink, gap_filter},
};
use crate::{
    api::{Container, ContainerPort, Event, Filter, event::Body},
    client::{FollowOptions, json},
};

pub(super) async fn run(args: PortsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let common = &args.common;
    let style = Style::for_stdout(common.display);
    let object = |one: &ContainerPort| json::OpenPort::from(one);
    if args.daemon {
        let (ports, exit) = ports_from_daemon(common).await?;
        let ports = select_and_sort(ports, &args.list, object)?;
        out.write(&render::list(&ports, &args.list.output, style))?;
        return Ok(exit);
    }
    let (mut set, scope) = ShimSet::select(common, args.watch).await?;
    let container = scope.only_id().unwrap_or_default().to_owned();
    let answers = join_all(set.shims.iter().map(|shim| shim.ports(&container))).await;
    let mut ports: Vec<ContainerPort> = Vec::new();
    // The cursor at which each shim has listed its ports. The stream of changes starts at this
    // cursor, so that no change between the list and the stream is lost.
    let mut since = HashMap::new();
    let mut failed = Vec::new();
    for (shim, answer) in set.shims.iter().zip(answers) {
        match answer {
            Ok(answer) => {
                since.insert(
                    shim.registration.address.clone(),
                    format!("{}:{}", answer.epoch, answer.seq),
                );
                ports.extend(answer.ports);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => failed.push(error),
        }
    }
    failed.into_iter().for_each(|error| set.report_unreachable(error, common.display.quiet));
    let descriptions = set.descriptions().await;
    ports.iter_mut().for_each(|one| descriptions.complete(one.container.as_mut()));
    ports.retain(|one| scope.has(one.container.get_or_default()));
    let ports = select_and_sort(ports, &args.list, object)?;
    if !args.watch {
        out.write(&render::list(&ports, &args.list.output, style))?;
        if ports.is_empty() && !set.has_failed {
            hint_if_empty(&set.registrations(), "open ports", &args.list.output, style.is_quiet);
        }
        return Ok(set.exit_status());
    }
    let filters = vec![
        Filter { types: vec!["port.*".to_owned()], container_id: container, ..Default::default() },
        gap_filter(),
    ];
    let rows = PortRows::new(args.list.output, style);
    let mut printer = PortPrinter { rows, out, scope };
    printer.print_open_ports(&ports)?;
    let wanted = |registration: &crate::client::Registration| FollowOptions {
        filters: filters.clone(),
        since: since.get(&registration.address).cloned().unwrap_or_default(),
        follow: true,
        ..Default::default()
    };
    let exit =
        stream::follow_events(common.namespace.clone(), common.display.quiet, wanted, &mut printer)
            .await?;
    Ok(if exit == Exit::Ok && printer.scope.has_gap { Exit::Incomplete } else { exit })
}

/// Asks the daemon for the open ports. The exit status is [`Exit::Unreachable`] if the daemon is
/// not connected to a shim that may have further ports.
async fn ports_from_daemon(
    common: &ContainerOptions,
) -> Result<(Vec<ContainerPort>, Exit), Failure> {
    let is_in =
        |namespace: &str| common.namespace.as_ref().is_none_or(|wanted| wanted == namespace);
    let is_asked =
        |of: &Container| is_in(&of.namespace) && common.container().is_none_or(|id| id == of.id);
    let daemon = connect_to_daemon().await?;
    let answer = daemon.node_ports().await?;
    let mut ports = answer.ports;
    ports.retain(|one| is_asked(one.container.get_or_default()));
    if common.container().is_some() && !ports.is_empty() {
        return Ok((ports, Exit::Ok));
    }
    let silent: Vec<_> =
        answer.shims.iter().filter(|shim| !shim.connected && is_in(&shim.namespace)).collect();
    if !common.display.quiet {
        silent.iter().for_each(|shim| {
            print_message(&format!("the daemon is not connected to shim {}", shim.id));
        });
    }
    if !silent.is_empty() {
        return Ok((ports, Exit::Unreachable));
    }
    // The daemon's list of ports does not have a container without open ports, so the list of
    // processes shows whether the container exists.
    if let Some(id) = common.container() {
        let processes = daemon.node_processes().await?.processes;
        if !processes.iter().any(|one| is_asked(one.container.get_or_default())) {
            return Err(Failure::NotFound(id.to_owned()));
        }
    }
    Ok((ports, Exit::Ok))
}

struct PortPrinter<'a> {
    rows: PortRows,
    out: &'a mut Output,
    scope: Scope,
}

impl PortPrinter<'_> {
    /// Prints the header, and the ports that are open when `ports -w` starts.
    fn print_open_ports(&mut self, ports: &[ContainerPort]) -> io::Result<()> {
        self.out.write(&self.rows.header())?;
        for port in ports {
            self.out.write(&self.rows.format_open_port(port))?;
        }
        self.out.flush()
    }
}

impl EventSink for PortPrinter<'_> {
    fn handle_event(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        if !self.scope.includes(event) {
            return Ok(ControlFlow::Continue(()));
        }
        match &event.body {
            Some(Body::Port(port)) => {
                self.out.write(&self.rows.format_change(event, port))?;
            }
            Some(Body::Gap(gap)) => {
                self.out.write(&self.rows.format_gap(event, gap))?;
            }
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
