//! `lookout events`: prints the events of containers.

use std::{io, ops::ControlFlow};

use super::{
    args::{EventFormat, EventsArgs},
    exit::{Exit, Failure},
    output::{Output, Style},
    print_message,
    render::{events as render, gap::gap_text},
    shim_set::{ShimSet, live_registrations},
    stream::{self, ContainerScope, EventSink, gap_filter},
};
use crate::{
    api::{Event, Filter, event::Body},
    client::{FollowOptions, Registration},
};

pub(super) async fn run(args: EventsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let display = args.common.display;
    let style = Style::for_stdout(display.no_trunc, display.quiet);
    let namespace = args.common.namespace.clone();
    // With `--container`: the shims that currently have the container.
    let located: Option<Vec<Registration>> = match &args.common.container {
        Some(_) => match ShimSet::connect_selected(&args.common).await {
            Ok(set) => Some(set.shims.into_iter().map(|shim| shim.registration).collect()),
            // With `-f` the container may start later.
            Err(Failure::NotFound(_)) if args.follow && args.since.is_none() => None,
            Err(failure) => return Err(failure),
        },
        None => None,
    };
    let filters = subscription_filters(&args);
    let wanted = |registration: &Registration| {
        // The cursor has the epoch of the container's own shim. Any other shim does not know this
        // epoch and would report a gap.
        let is_its_shim = located.as_ref().is_some_and(|located| located.contains(registration));
        let since = args.since.clone().filter(|_| is_its_shim).unwrap_or_default();
        FollowOptions { filters: filters.clone(), since, follow: args.follow }
    };
    let mut printer = EventPrinter::new(&args, style, out);
    printer.out.write_now(&render::header(args.output, style))?;
    let exit = if args.follow {
        stream::follow_events(namespace, display.quiet, wanted, &mut printer).await?
    } else {
        let registrations = match &located {
            Some(located) => located.clone(),
            None => live_registrations(namespace.as_deref())?,
        };
        let sources = registrations.into_iter().map(|one| (one.clone(), wanted(&one))).collect();
        stream::read_journals(sources, display.quiet, &mut printer).await?
    };
    printer.out.write_now(render::footer(args.output, printer.is_empty))?;
    Ok(match exit {
        Exit::Ok if printer.scope.has_gap => Exit::Incomplete,
        exit => exit,
    })
}

/// The filters of the subscription to each shim. They always include gaps: without these, a user
/// could not distinguish a loss from a quiet container.
fn subscription_filters(args: &EventsArgs) -> Vec<Filter> {
    let filter = Filter {
        types: args.types.clone(),
        container_id: args.common.container.clone().unwrap_or_default(),
        exec_id: args.exec_id.clone(),
        origin: args.origin.map(|origin| origin.as_str().to_owned()).unwrap_or_default(),
        executable: args.exe.clone().unwrap_or_default(),
        failures: args.failures,
        ..Default::default()
    };
    if filter == Filter::default() {
        return Vec::new();
    }
    vec![filter, gap_filter()]
}

struct EventPrinter<'a> {
    format: EventFormat,
    style: Style,
    out: &'a mut Output,
    scope: ContainerScope,
    /// How many events may still be printed (`--limit`).
    left: u64,
    is_empty: bool,
}

impl<'a> EventPrinter<'a> {
    fn new(args: &EventsArgs, style: Style, out: &'a mut Output) -> Self {
        Self {
            format: args.output,
            style,
            out,
            scope: ContainerScope::new(args.common.container.clone()),
            left: args.limit.unwrap_or(u64::MAX),
            is_empty: true,
        }
    }
}

impl EventSink for EventPrinter<'_> {
    fn handle_event(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        if self.left == 0 {
            return Ok(ControlFlow::Break(()));
        }
        if !self.scope.includes(event) {
            return Ok(ControlFlow::Continue(()));
        }
        if let (EventFormat::Probe, Some(Body::Gap(gap)), false) =
            (self.format, &event.body, self.style.is_quiet)
        {
            // The format `probe` has no line for a gap.
            print_message(&gap_text(gap));
        }
        let text = render::format_event(event, self.format, self.is_empty, self.style);
        if text.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        self.out.write(&text)?;
        self.is_empty = false;
        // A `hello`, and a gap of the stream itself, are not events of a container, so they do not
        // count towards `--limit`.
        if event.seq != 0 {
            self.left -= 1;
        }
        Ok(if self.left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
