//! `lookout stats` and `lookout top`: the resource usage of processes.

use std::{collections::HashMap, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::connect_to_daemon;
use crate::cli::args::registry::{SortOrder, StatsArgs, TopArgs};
use crate::{
    api::{SampleRequest, Usage},
    cli::{
        args::ListFormat,
        exit::{Exit, Failure},
        output::{Output, Style},
        rates::per_second,
        render::usage as render,
        shim_set::ShimSet,
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

/// `lookout top` where there is no screen: prints the resource usage repeatedly, with the CPU rates
/// since the previous sample.
pub(in crate::cli) async fn top(args: TopArgs, out: &mut Output) -> Result<Exit, Failure> {
    let style = Style::for_stdout(args.common.display);
    let selects_containers = args.selects_containers();
    let scope = match selects_containers {
        true => Some(ShimSet::select(&args.common, false).await?.1),
        false => None,
    };
    let request = SampleRequest {
        selector: Some(args.select.selector(Vec::new())).into(),
        containers: args.containers || selects_containers,
        tree: args.tree,
        ..Default::default()
    };
    let daemon = connect_to_daemon().await?;
    let sample = async || {
        let mut usages = daemon.sample(&request).await?;
        if let Some(scope) = &scope {
            usages.retain(|usage| usage.container.as_ref().is_some_and(|one| scope.has(one)));
        }
        Ok::<_, Failure>(usages)
    };
    let mut termination = TerminationSignals::new()?;
    let mut before = sample().await?;
    // A page has rates from the first one on, without a wait for the whole interval.
    let mut until = Instant::now() + args.interval.min(FIRST_INTERVAL);
    for _ in 0..args.count.unwrap_or(u64::MAX) {
        tokio::select! {
            () = termination.received() => break,
            () = sleep_until(until) => {}
        }
        until += args.interval;
        let mut now = sample().await?;
        let rates = cpu_rates(&before, &now);
        before.clone_from(&now);
        sort_usages(&mut now, &rates, args.sort);
        out.write_now(&render::top_page(&now, &rates, style))?;
    }
    Ok(Exit::Ok)
}

/// The CPU rate of each process between two samples, by entity id; 1.0 is one processor.
fn cpu_rates(before: &[Usage], now: &[Usage]) -> HashMap<String, f64> {
    let earlier: HashMap<&str, &Usage> =
        before.iter().map(|usage| (usage.entity_id.as_str(), usage)).collect();
    let rate = |usage: &Usage| {
        let before = earlier.get(usage.entity_id.as_str())?;
        let over_ns = usage.monotonic_ns.checked_sub(before.monotonic_ns)?;
        let rate = per_second(before.cpu_ns, usage.cpu_ns, over_ns)? / 1e9;
        Some((usage.entity_id.clone(), rate))
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
        SortOrder::Io => usages.sort_by_key(|usage| {
            let bytes = [usage.read_bytes, usage.written_bytes].into_iter().flatten();
            std::cmp::Reverse(bytes.fold(0_u64, u64::saturating_add))
        }),
        SortOrder::Pid => usages.sort_by_key(|usage| usage.pid),
        SortOrder::Age => usages.sort_by_key(|usage| std::cmp::Reverse(usage.created_ns)),
        SortOrder::Name => usages
            .sort_by(|one, other| (&one.name, &one.command).cmp(&(&other.name, &other.command))),
        SortOrder::Id => {}
    }
}
