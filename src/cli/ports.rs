//! `lookout ports`.

use std::{collections::HashMap, io, ops::ControlFlow};

use futures::future::join_all;

use super::{
    args::{Common, ListFormat, PortsArgs},
    exit::{Exit, Failure},
    note,
    output::{Output, Style},
    reach::Reach,
    registry::connect,
    render::ports as render,
    stream::{self, Asked, Sink, gaps},
};
use crate::{
    api::{
        Container, ContainerPort, Event, Filter, NodePortsRequest, NodeProcessesRequest,
        event::Body,
    },
    client::Wanted,
};

pub(super) async fn run(args: PortsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let common = &args.common;
    let style = Style::of_stdout(common.look.no_trunc, common.look.quiet);
    if args.daemon {
        let (ports, exit) = known_to_the_daemon(common).await?;
        out.write(&render::list(&ports, args.output, style))?;
        return Ok(exit);
    }
    let mut reach = match Reach::of(common).await {
        // It may come.
        Err(Failure::NotFound(_)) if args.watch => Reach { shims: Vec::new(), failed: false },
        reach => reach?,
    };
    let container = common.container.as_deref().unwrap_or_default();
    let answers = join_all(reach.shims.iter().map(|shim| shim.ports(container))).await;
    let mut ports: Vec<ContainerPort> = Vec::new();
    // What came after the lists, so that nothing is missing between the two.
    let mut since = HashMap::new();
    let mut failed = Vec::new();
    for (shim, answer) in reach.shims.iter().zip(answers) {
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
    failed.into_iter().for_each(|error| reach.tell(error, common.look.quiet));
    if !args.watch {
        out.write(&render::list(&ports, args.output, style))?;
        return Ok(reach.exit());
    }
    let filters = vec![
        Filter {
            types: vec!["port.*".to_owned()],
            container_id: container.to_owned(),
            ..Default::default()
        },
        gaps(),
    ];
    let mut printer =
        Printer { format: args.output, style, out, asked: Asked::new(common.container.clone()) };
    printer.begin(&ports)?;
    let wanted = |registration: &crate::client::Registration| Wanted {
        filters: filters.clone(),
        since: since.get(&registration.address).cloned().unwrap_or_default(),
        follow: true,
    };
    let exit =
        stream::follow(common.namespace.clone(), common.look.quiet, wanted, &mut printer).await?;
    Ok(if exit == Exit::Ok && printer.asked.has_gap { Exit::Incomplete } else { exit })
}

/// The ports in the daemon's view, and whether it has all shims that were asked for.
async fn known_to_the_daemon(common: &Common) -> Result<(Vec<ContainerPort>, Exit), Failure> {
    let is_in =
        |namespace: &str| common.namespace.as_ref().is_none_or(|wanted| wanted == namespace);
    let is_asked = |of: &Container| {
        is_in(&of.namespace) && common.container.as_ref().is_none_or(|id| *id == of.id)
    };
    let daemon = connect().await?;
    let answer = daemon.node_ports(&NodePortsRequest::new()).await?;
    let mut ports = answer.ports;
    ports.retain(|one| is_asked(one.container.get_or_default()));
    if common.container.is_some() && !ports.is_empty() {
        return Ok((ports, Exit::Ok));
    }
    let silent: Vec<_> =
        answer.shims.iter().filter(|shim| !shim.connected && is_in(&shim.namespace)).collect();
    if !common.look.quiet {
        silent.iter().for_each(|shim| note(&format!("shim {} tells the daemon nothing", shim.id)));
    }
    if !silent.is_empty() {
        return Ok((ports, Exit::Unreachable));
    }
    if let Some(id) = &common.container {
        let processes = daemon.node_processes(&NodeProcessesRequest::new()).await?.processes;
        if !processes.iter().any(|one| is_asked(one.container.get_or_default())) {
            return Err(Failure::NotFound(id.clone()));
        }
    }
    Ok((ports, Exit::Ok))
}

struct Printer<'a> {
    format: ListFormat,
    style: Style,
    out: &'a mut Output,
    asked: Asked,
}

impl Printer<'_> {
    fn begin(&mut self, ports: &[ContainerPort]) -> io::Result<()> {
        self.out.write(&render::header(self.format, self.style))?;
        for port in ports {
            self.out.write(&render::begun(port, self.format, self.style))?;
        }
        self.out.flush()
    }
}

impl Sink for Printer<'_> {
    fn event(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        if !self.asked.takes(event) {
            return Ok(ControlFlow::Continue(()));
        }
        if let Some(Body::Port(port)) = &event.body {
            self.out.write(&render::changed(event, port, self.format, self.style))?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
