//! `lookout events`.

use std::{io, ops::ControlFlow};

use super::{
    args::{EventFormat, EventsArgs},
    exit::{Exit, Failure},
    output::{Output, Style},
    reach::{Reach, registered},
    render::events as render,
    stream::{self, Sink},
};
use crate::{
    api::{Event, Filter, event::Body},
    client::{Registration, Wanted},
};

pub(super) async fn run(args: EventsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let look = args.common.look;
    let style = Style::of_stdout(look.no_trunc, look.quiet);
    let namespace = args.common.namespace.clone();
    // The shims that know the container now, where one is asked for.
    let located: Option<Vec<Registration>> = match &args.common.container {
        Some(_) => match Reach::of(&args.common).await {
            Ok(reach) => Some(reach.shims.into_iter().map(|shim| shim.registration).collect()),
            // It may come.
            Err(Failure::NotFound(_)) if args.follow && args.since.is_none() => None,
            Err(failure) => return Err(failure),
        },
        None => None,
    };
    let filters = filters(&args);
    let wanted = |registration: &Registration| {
        let is_its = located.as_ref().is_some_and(|located| located.contains(registration));
        let since = args.since.clone().filter(|_| is_its).unwrap_or_default();
        Wanted { filters: filters.clone(), since, follow: args.follow }
    };
    let mut printer = Printer::new(&args, style, out);
    printer.begin()?;
    let exit = if args.follow {
        stream::follow(namespace, look.quiet, wanted, &mut printer).await?
    } else {
        let registrations = match &located {
            Some(located) => located.clone(),
            None => registered(namespace.as_deref())?,
        };
        let sources = registrations.into_iter().map(|one| (one.clone(), wanted(&one))).collect();
        stream::read(sources, look.quiet, &mut printer).await?
    };
    printer.end()?;
    Ok(match exit {
        Exit::Ok if printer.has_gap && !args.follow => Exit::Incomplete,
        exit => exit,
    })
}

/// What is asked of each shim. Gaps come whatever is asked for: without them silence would look like peace.
fn filters(args: &EventsArgs) -> Vec<Filter> {
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
    vec![filter, gaps()]
}

/// The filter of gaps.
pub(super) fn gaps() -> Filter {
    Filter { types: vec!["observer.gap".to_owned()], ..Default::default() }
}

/// Whether an event is a gap of another container than the one that is asked for.
pub(super) fn is_anothers(event: &Event, container: Option<&str>) -> bool {
    let Some(wanted) = container else { return false };
    event.container.as_ref().is_some_and(|container| container.id != wanted)
}

struct Printer<'a> {
    format: EventFormat,
    style: Style,
    out: &'a mut Output,
    container: Option<String>,
    /// How many may still come.
    left: u64,
    is_empty: bool,
    has_gap: bool,
}

impl<'a> Printer<'a> {
    fn new(args: &EventsArgs, style: Style, out: &'a mut Output) -> Self {
        Self {
            format: args.output,
            style,
            out,
            container: args.common.container.clone(),
            left: args.limit.unwrap_or(u64::MAX),
            is_empty: true,
            has_gap: false,
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        self.out.write(&render::header(self.format, self.style))?;
        self.out.flush()
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.write(render::footer(self.format, self.is_empty))?;
        self.out.flush()
    }
}

impl Sink for Printer<'_> {
    fn event(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        if self.left == 0 {
            return Ok(ControlFlow::Break(()));
        }
        if is_anothers(event, self.container.as_deref()) {
            return Ok(ControlFlow::Continue(()));
        }
        self.has_gap |= matches!(event.body, Some(Body::Gap(_)));
        let text = render::event(event, self.format, self.is_empty, self.style);
        if text.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        self.out.write(&text)?;
        self.is_empty = false;
        if !matches!(event.body, Some(Body::Hello(_))) {
            self.left -= 1;
        }
        Ok(if self.left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
