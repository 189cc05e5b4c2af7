//! `lookout stats` and `lookout top`: the resource usage of processes.

use std::{collections::HashMap, io::IsTerminal as _, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{connect_to_daemon, keys::KeyReader};
use crate::cli::args::registry::{SortOrder, StatsArgs, TopArgs};
use crate::{
    api::{SampleRequest, Usage},
    cli::{
        args::ListFormat,
        exit::{Exit, Failure},
        output::{Output, Style},
        render::usage as render,
        stream::TerminationSignals,
    },
};

/// The time between the two samples of `stats`, and until the first page of `top`. The kernel
/// counts CPU time in steps of 10 ms, which is 2 % of it.
const FIRST_INTERVAL: Duration = Duration::from_millis(500);

/// `lookout stats`: prints the resource usage once. A CPU rate needs two samples, so the command
/// takes one more before it. A process that started between them has no rate.
pub(in crate::cli) async fn stats(args: StatsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let selector = Some(args.select.selector(Vec::new())).into();
    let request = SampleRequest {
        selector,
        containers: args.containers,
        tree: args.tree,
        ..Default::default()
    };
    let style = Style::for_stdout(args.display);
    let daemon = connect_to_daemon().await?;
    let mut now = daemon.sample(&request).await?;
    let mut rates = HashMap::new();
    // With `-q` only pids are printed.
    let shows_rates =
        !(style.is_quiet && matches!(args.output, ListFormat::Table | ListFormat::Wide));
    if shows_rates && !now.is_empty() {
        sleep(FIRST_INTERVAL).await;
        let before = std::mem::replace(&mut now, daemon.sample(&request).await?);
        rates = cpu_rates(&before, &now);
    }
    out.write(&render::list(&now, &rates, args.output, style))?;
    Ok(Exit::Ok)
}

/// `lookout top`: prints the resource usage repeatedly, with the CPU rates since the previous
/// sample.
pub(in crate::cli) async fn top(args: TopArgs, out: &mut Output) -> Result<Exit, Failure> {
    let selector = Some(args.select.selector(Vec::new())).into();
    let request = SampleRequest {
        selector,
        containers: args.containers,
        tree: args.tree,
        ..Default::default()
    };
    let daemon = connect_to_daemon().await?;
    let mut termination = TerminationSignals::new()?;
    let is_terminal = std::io::stdout().is_terminal();
    let mut before = daemon.sample(&request).await?;
    let screen = is_terminal.then(|| AlternateScreen::enter(out)).transpose()?;
    let keys = KeyReader::from_stdin().filter(|_| is_terminal);
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut order = args.sort;
    // A page has rates from the first one on, without a wait for the whole interval.
    let mut until = Instant::now() + args.interval.min(FIRST_INTERVAL);
    let mut rates = HashMap::new();
    let result = loop {
        tokio::select! {
            () = termination.received() => break Ok(Exit::Ok),
            Some(key) = next_key(keys.as_ref()) => match key {
                b'q' => break Ok(Exit::Ok),
                b'c' => order = SortOrder::Cpu,
                b'm' => order = SortOrder::Memory,
                b'i' => order = SortOrder::Id,
                _ => continue,
            },
            () = sleep_until(until) => {
                until += args.interval;
                let now = match daemon.sample(&request).await {
                    Ok(now) => now,
                    Err(error) => break Err(error.into()),
                };
                rates = cpu_rates(&before, &now);
                before = now;
                left -= 1;
            }
        }
        let mut usages = before.clone();
        sort_usages(&mut usages, &rates, order);
        let style = Style::for_stdout(args.display);
        let page = render::top_page(&usages, &rates, style);
        let shown = match &screen {
            Some(screen) => screen.draw_page(&page, out),
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
        AlternateScreen::leave(out)?;
    }
    result
}

async fn next_key(keys: Option<&KeyReader>) -> Option<u8> {
    match keys {
        Some(keys) => keys.next_key().await,
        None => std::future::pending().await,
    }
}

/// The CPU rate of each process between two samples, by entity id; 1.0 is one processor.
fn cpu_rates(before: &[Usage], now: &[Usage]) -> HashMap<String, f64> {
    let earlier: HashMap<&str, &Usage> =
        before.iter().map(|usage| (usage.entity_id.as_str(), usage)).collect();
    let rate = |usage: &Usage| {
        let before = earlier.get(usage.entity_id.as_str())?;
        let over = usage.monotonic_ns.checked_sub(before.monotonic_ns).filter(|over| *over > 0)?;
        let used = usage.cpu_ns.saturating_sub(before.cpu_ns);
        #[expect(clippy::cast_precision_loss, reason = "the rate is only displayed")]
        Some((usage.entity_id.clone(), used as f64 / over as f64))
    };
    now.iter().filter_map(rate).collect()
}

/// Sorts usages by `sort`. Equal ones stay in the order of entry ids, each entry followed by its
/// descendants; processes of containers, which have no entry, come last.
fn sort_usages(usages: &mut [Usage], rates: &HashMap<String, f64>, sort: SortOrder) {
    // The daemon sets at most one of `id` and `descends_from`, so the greater one is the entry.
    let entry = |usage: &Usage| usage.id.max(usage.descends_from);
    usages.sort_by_key(|usage| (entry(usage) == 0, entry(usage), usage.id == 0, usage.pid));
    let rate = |usage: &Usage| rates.get(&usage.entity_id).copied().unwrap_or_default();
    match sort {
        SortOrder::Cpu => usages.sort_by(|one, other| rate(other).total_cmp(&rate(one))),
        SortOrder::Memory => usages.sort_by_key(|usage| std::cmp::Reverse(usage.rss_bytes)),
        SortOrder::Id => {}
    }
}

/// The alternate screen of the terminal. Leaving it restores the previous contents.
struct AlternateScreen;

impl AlternateScreen {
    fn enter(out: &mut Output) -> Result<Self, Failure> {
        out.write("\x1b[?1049h\x1b[?25l")?;
        out.flush()?;
        Ok(Self)
    }

    /// Draws a page over the previous one without clearing the screen, which avoids flicker. Lines
    /// that do not fit on the screen are omitted.
    #[expect(clippy::unused_self, reason = "a page may be drawn only after `enter`")]
    fn draw_page(&self, page: &str, out: &mut Output) -> std::io::Result<()> {
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
