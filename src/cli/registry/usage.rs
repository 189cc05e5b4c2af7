//! `lookout stats` and `lookout top`.

use std::{collections::HashMap, io::IsTerminal as _};

use tokio::time::{Instant, sleep_until};

use super::{connect, keys::Keys};
use crate::cli::args::registry::{Sort, StatsArgs, TopArgs};
use crate::{
    api::{SampleRequest, SampleResponse, Usage},
    cli::{
        exit::{Exit, Failure},
        output::{Output, Style},
        render::usage as render,
        stream::Termination,
    },
};

/// `lookout stats`: prints one sample. CPU rates are unknown, because a rate needs two samples.
pub(in crate::cli) async fn stats(args: StatsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let selector = Some(args.select.selector(Vec::new())).into();
    let request = SampleRequest {
        selector,
        containers: args.containers,
        tree: args.tree,
        ..Default::default()
    };
    let sample = connect().await?.sample(&request).await?;
    let style = Style::of_stdout(args.display.no_trunc, args.display.quiet);
    out.write(&render::list(&sample.usages, &HashMap::new(), args.output, style))?;
    Ok(Exit::Ok)
}

/// `lookout top`: prints samples repeatedly, with the CPU rates since the previous sample.
pub(in crate::cli) async fn top(args: TopArgs, out: &mut Output) -> Result<Exit, Failure> {
    let selector = Some(args.select.selector(Vec::new())).into();
    let request = SampleRequest {
        selector,
        containers: args.containers,
        tree: args.tree,
        ..Default::default()
    };
    let daemon = connect().await?;
    let mut termination = Termination::new()?;
    let is_terminal = std::io::stdout().is_terminal();
    let mut before = daemon.sample(&request).await?;
    let screen = is_terminal.then(|| Screen::enter(out)).transpose()?;
    let keys = Keys::listen().filter(|_| is_terminal);
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut order = args.sort;
    let mut until = Instant::now() + args.interval;
    let mut rates = HashMap::new();
    let result = loop {
        tokio::select! {
            () = termination.requested() => break Ok(Exit::Ok),
            Some(key) = next(keys.as_ref()) => match key {
                b'q' => break Ok(Exit::Ok),
                b'c' => order = Sort::Cpu,
                b'm' => order = Sort::Memory,
                b'i' => order = Sort::Id,
                _ => continue,
            },
            () = sleep_until(until) => {
                until += args.interval;
                let now = match daemon.sample(&request).await {
                    Ok(now) => now,
                    Err(error) => break Err(error.into()),
                };
                rates = rates_of(&before, &now);
                before = now;
                left -= 1;
            }
        }
        let mut usages = before.usages.clone();
        sort(&mut usages, &rates, order);
        let style = Style::of_stdout(args.display.no_trunc, args.display.quiet);
        let page = render::top(&usages, &rates, style);
        let shown = match &screen {
            Some(screen) => screen.show(&page, out),
            None => out.write(&page).and_then(|()| out.flush()),
        };
        if let Err(error) = shown {
            break Err(error.into());
        }
        if left == 0 {
            break Ok(Exit::Ok);
        }
    };
    if screen.is_some() {
        Screen::leave(out)?;
    }
    result
}

async fn next(keys: Option<&Keys>) -> Option<u8> {
    match keys {
        Some(keys) => keys.next().await,
        None => std::future::pending().await,
    }
}

/// The CPU rate of each process between two samples, by entity id; 1.0 is one processor.
fn rates_of(before: &SampleResponse, now: &SampleResponse) -> HashMap<String, f64> {
    let earlier: HashMap<&str, u64> =
        before.usages.iter().map(|usage| (usage.entity_id.as_str(), usage.cpu_ns)).collect();
    let over = now.monotonic_ns.saturating_sub(before.monotonic_ns).max(1);
    let rate = |usage: &Usage| {
        let used = usage.cpu_ns.saturating_sub(*earlier.get(usage.entity_id.as_str())?);
        #[expect(clippy::cast_precision_loss, reason = "a rate for reading")]
        Some((usage.entity_id.clone(), used as f64 / over as f64))
    };
    now.usages.iter().filter_map(rate).collect()
}

/// Sorts the rows by `sort`. Equal rows stay in the order of ids, each entry followed by its
/// descendants; processes of containers, which have no id, come last.
fn sort(usages: &mut [Usage], rates: &HashMap<String, f64>, sort: Sort) {
    // At most one of `id` and `descends_from` is set.
    let entry = |usage: &Usage| usage.id.max(usage.descends_from);
    usages.sort_by_key(|usage| (entry(usage) == 0, entry(usage), usage.id == 0, usage.pid));
    let rate = |usage: &Usage| rates.get(&usage.entity_id).copied().unwrap_or_default();
    match sort {
        Sort::Cpu => usages.sort_by(|one, other| rate(other).total_cmp(&rate(one))),
        Sort::Memory => usages.sort_by_key(|usage| std::cmp::Reverse(usage.rss_bytes)),
        Sort::Id => {}
    }
}

/// The alternate screen of the terminal. Leaving it restores the previous contents.
struct Screen;

impl Screen {
    fn enter(out: &mut Output) -> Result<Self, Failure> {
        out.write("\x1b[?1049h\x1b[?25l")?;
        out.flush()?;
        Ok(Self)
    }

    /// Overwrites the previous page in place, which avoids flicker. Lines that do not fit are
    /// omitted.
    #[expect(clippy::unused_self, reason = "only a screen that was entered shows")]
    fn show(&self, page: &str, out: &mut Output) -> std::io::Result<()> {
        let rows = terminal_size::terminal_size()
            .map_or(24, |(_, terminal_size::Height(rows))| usize::from(rows));
        let lines: Vec<&str> = page.lines().take(rows).collect();
        out.write("\x1b[H")?;
        for (index, line) in lines.iter().enumerate() {
            out.write(line)?;
            out.write(if index + 1 < lines.len() { "\x1b[K\r\n" } else { "\x1b[K" })?;
        }
        out.write("\x1b[J")?;
        out.flush()
    }

    fn leave(out: &mut Output) -> Result<(), Failure> {
        out.write("\x1b[?25h\x1b[?1049l")?;
        out.flush()?;
        Ok(())
    }
}
