//! `lookout events`: prints the events of containers.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    ops::ControlFlow,
};

#[cfg(feature = "expressions")]
use super::expression::Expression;
use super::{
    args::{EventsArgs, Format, Since},
    exit::{Exit, Failure},
    hint_if_empty,
    history::{HistoryReader, Past},
    output::{Output, Style},
    print_message,
    render::{events::EventRows, gap::gap_text},
    select::{self, Scope},
    starts::StartsAndExits,
    stream::{self, EventSink, TerminationSignals, gap_filter},
};
#[cfg(feature = "expressions")]
use crate::client::json;
use crate::{
    api::{Event, Filter, event::Body},
    client::{FollowOptions, Registration},
};

pub(super) async fn run(args: EventsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let is_quiet = args.common.display.quiet;
    let (registrations, scope) = select::sources(&args.common, args.follow).await?;
    let cursor = match &args.since {
        Some(Since::Cursor(_)) if scope.only_id().is_none() => {
            return Err(Failure::Invalid(
                "--since EPOCH:SEQ needs a container: each shim has cursors of its own".to_owned(),
            ));
        }
        Some(Since::Cursor(cursor)) => cursor.clone(),
        _ => String::new(),
    };
    let filters = subscription_filters(&args, scope.only_id());
    let mut printer = EventPrinter::new(&args, scope, out)?;
    printer.out.write_now(&printer.rows.header())?;
    let journal = |registration: &Registration| {
        let wanted = FollowOptions {
            filters: filters.clone(),
            since: cursor.clone(),
            ..FollowOptions::default()
        };
        (registration.clone(), wanted)
    };
    // After a cursor, the stream of a shim itself begins with what is in its journal.
    let is_after_time = matches!(args.since, Some(Since::Time(_)));
    let has_past = !args.follow || is_after_time || args.tail.is_some();
    // A signal ends `-f` also while it still reads the journals.
    let mut termination = args.follow.then(TerminationSignals::new).transpose()?;
    let (mut cursors, mut exit, mut is_ended) = (HashMap::new(), Exit::Ok, false);
    if has_past {
        let sources = registrations.iter().map(journal).collect();
        let past = match past(&args, &printer, &filters) {
            Some(past) => HistoryReader::open(&past, is_quiet).await,
            None => None,
        };
        let read = stream::read_journals(sources, past, is_quiet, &mut printer);
        let read = match &mut termination {
            None => Some(read.await?),
            Some(termination) => tokio::select! {
                biased;
                () = termination.received() => None,
                read = read => Some(read?),
            },
        };
        printer.print_tail()?;
        match read {
            Some(read) => (exit, cursors) = (read.exit, read.cursors),
            None => is_ended = true,
        }
    }
    // A cursor that a shim has refused would be refused again.
    if args.follow && !printer.is_done() && !is_ended && exit != Exit::Usage {
        let is_present = |one: &Registration| registrations.contains(one);
        let wanted = |registration: &Registration| FollowOptions {
            filters: filters.clone(),
            since: match cursors.get(&registration.address) {
                None if is_present(registration) => cursor.clone(),
                read => read.cloned().unwrap_or_default(),
            },
            // Of a shim that starts later, everything is new.
            from_now: is_present(registration),
            follow: true,
        };
        let followed =
            stream::follow_events(args.common.namespace.clone(), is_quiet, wanted, &mut printer)
                .await?;
        exit = exit.max(followed);
    }
    printer.out.write_now(printer.rows.footer())?;
    if printer.rows.is_empty() && !args.follow && exit == Exit::Ok {
        hint_if_empty(&registrations, "events", &args.output, is_quiet);
    }
    Ok(match exit {
        Exit::Ok if printer.scope.has_gap => Exit::Incomplete,
        exit => exit,
    })
}

/// Which events are asked of the daemon's history; `None` if the journals are enough: they have
/// what happened of late, and a user who names no container and no time does not mean the events
/// of a month.
fn past(args: &EventsArgs, printer: &EventPrinter<'_>, filters: &[Filter]) -> Option<Past> {
    if matches!(args.since, Some(Since::Cursor(_))) {
        // It continues a stream that a shim has.
        return None;
    }
    let is_asked = args.since.is_some()
        || args.until.is_some()
        || args.tail.is_some()
        || !printer.scope.containers().is_empty();
    is_asked.then(|| Past {
        from_ns: printer.times.0,
        to_ns: args.until.unwrap_or_default(),
        ..printer.scope.past(filters)
    })
}

/// The filters of the subscription to each shim. They always include gaps: without these, a user
/// could not distinguish a loss from a quiet container.
fn subscription_filters(args: &EventsArgs, container: Option<&str>) -> Vec<Filter> {
    let filter = Filter {
        types: args.types.clone(),
        container_id: container.unwrap_or_default().to_owned(),
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
    rows: EventRows,
    format: Format,
    style: Style,
    out: &'a mut Output,
    scope: Scope,
    /// Selects what a person wants to see first; `None` to show all events.
    starts: Option<StartsAndExits>,
    #[cfg(feature = "expressions")]
    condition: Option<Expression>,
    /// The times from which and before which events are shown, in nanoseconds since 1970.
    times: (u64, u64),
    /// The last events of the journals, if only these are shown: how many, and which.
    tail: Option<(usize, VecDeque<Event>)>,
    /// How many events may still be printed (`--limit`).
    left: u64,
    /// The ids and epochs of the shims of which a `hello` was printed: the stream of new events has
    /// one too.
    greeted: HashSet<(String, String)>,
}

impl<'a> EventPrinter<'a> {
    fn new(args: &EventsArgs, scope: Scope, out: &'a mut Output) -> Result<Self, Failure> {
        let style = Style::for_stdout(args.common.display);
        let is_table = matches!(args.output, Format::Table | Format::Wide);
        let shows_all = args.all || !args.types.is_empty() || !is_table;
        let since = match args.since {
            Some(Since::Time(time)) => time,
            _ => 0,
        };
        #[cfg(feature = "expressions")]
        let condition = args.filter.as_deref().map(Expression::parse).transpose();
        Ok(Self {
            rows: EventRows::new(args.output.clone(), style),
            format: args.output.clone(),
            style,
            out,
            scope,
            starts: (!shows_all).then(StartsAndExits::default),
            #[cfg(feature = "expressions")]
            condition: condition.map_err(Failure::Invalid)?,
            times: (since, args.until.unwrap_or(u64::MAX)),
            tail: args.tail.map(|count| (count, VecDeque::new())),
            left: args.limit.unwrap_or(u64::MAX),
            greeted: HashSet::new(),
        })
    }

    fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Whether an event is one that the options ask for.
    fn is_wanted(&mut self, event: &Event) -> bool {
        let is_again = match &event.body {
            Some(Body::Hello(hello)) => {
                !self.greeted.insert((hello.shim_id.clone(), event.epoch.clone()))
            }
            _ => false,
        };
        if is_again || !self.scope.includes(event) {
            return false;
        }
        // A `hello`, and a gap of the stream itself, have the time of the request.
        let is_in_time = event.seq == 0 || (self.times.0..self.times.1).contains(&event.time_ns);
        // Also those that are not shown decide which later ones are.
        let is_shown = self.starts.as_mut().is_none_or(|starts| starts.shows(event));
        is_in_time && is_shown && (matches!(event.body, Some(Body::Gap(_))) || self.meets(event))
    }

    #[cfg(feature = "expressions")]
    fn meets(&self, event: &Event) -> bool {
        self.condition.as_ref().is_none_or(|condition| {
            let object = serde_json::to_value(json::Event::from(event));
            object.is_ok_and(|object| condition.matches(&object))
        })
    }

    #[cfg(not(feature = "expressions"))]
    fn meets(&self, _: &Event) -> bool {
        true
    }

    fn print(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        if let (Format::Probe, Some(Body::Gap(gap)), false) =
            (&self.format, &event.body, self.style.is_quiet)
        {
            // The format `probe` has no line for a gap.
            print_message(&gap_text(gap));
        }
        let text = self.rows.format(event);
        if text.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        self.out.write(&text)?;
        // A `hello`, and a gap of the stream itself, are not events of a container, so they do not
        // count towards `--limit`.
        if event.seq != 0 {
            self.left -= 1;
        }
        Ok(if self.is_done() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Prints the last events of the journals, if only these are shown.
    fn print_tail(&mut self) -> io::Result<()> {
        for event in self.tail.take().map(|(_, events)| events).unwrap_or_default() {
            if self.print(&event)?.is_break() {
                break;
            }
        }
        self.out.flush()
    }
}

impl EventSink for EventPrinter<'_> {
    fn handle_event(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        if self.is_done() {
            return Ok(ControlFlow::Break(()));
        }
        if !self.is_wanted(event) {
            return Ok(ControlFlow::Continue(()));
        }
        match &mut self.tail {
            None => self.print(event),
            Some((count, events)) => {
                events.push_back(event.clone());
                if events.len() > *count {
                    events.pop_front();
                }
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
