//! Durability: a killed daemon keeps every change that it has confirmed, and no other.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use lookout::{
    api::{AddRequest, Selector, UpdateRequest},
    client,
};
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::{Daemon, Node, Sleeper, listed, ok, run};

/// How often the daemon is killed.
const KILLS: u32 = 200;

/// Check that the daemon, killed at 200 random moments while entries are added and tagged, has
/// every confirmed change after each restart, no change that was not requested, and either all or
/// nothing of a change that it did not confirm.
#[test]
fn no_confirmed_change_is_lost() {
    let node = Node::new();
    let sleepers: Vec<Sleeper> = (0..8).map(|_| Sleeper::new()).collect();
    let seed = std::process::id();
    eprintln!("seed {seed}");
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed.to_ne_bytes(); 8].concat());
    let mut confirmed = 0;
    let daemon = Daemon::start(&node);
    ok(&node, &["add", &sleepers[0].pid()]);
    daemon.term();
    for round in 0..KILLS {
        let daemon = Daemon::start(&node);
        let after = Duration::from_micros(u64::from(rand(&mut random)) % 30_000);
        let is_over = &AtomicBool::new(false);
        let outcome = thread::scope(|scope| {
            let worker = scope.spawn(|| work(&node, round, &sleepers, is_over));
            thread::sleep(after);
            daemon.kill();
            is_over.store(true, Ordering::Relaxed);
            worker.join().expect("the worker does not panic")
        });
        confirmed += outcome.tags.len();
        let daemon = Daemon::start(&node);
        check(&node, &outcome, &format!("round {round}, killed after {after:?}"));
        clear(&node);
        daemon.kill();
    }
    assert!(confirmed > 200, "only {confirmed} changes were confirmed: nothing was tested");
    let _daemon = Daemon::start(&node);
    assert!(!super::log_of(&node).contains("damaged"), "{}", super::log_of(&node));
    assert_eq!(run(&node, &["list", "-q"]).out, "1\n");
}

/// Compares the registry after a restart with the outcome of the round before it.
fn check(node: &Node, outcome: &Outcome, round: &str) {
    let now = tags(node);
    let missing: Vec<_> =
        outcome.tags.difference(&now).filter(|tag| !outcome.unconfirmed.contains(*tag)).collect();
    assert!(missing.is_empty(), "{round}: {missing:?} is lost");
    let extra: Vec<_> =
        now.difference(&outcome.tags).filter(|tag| !outcome.unconfirmed.contains(*tag)).collect();
    assert!(extra.is_empty(), "{round}: {extra:?} was not requested");
    // Each request adds or removes two tags, which must stay together.
    let half = now
        .iter()
        .filter(|tag| tag.ends_with('a'))
        .find(|tag| !now.contains(&tag.replace('a', "b")));
    assert_eq!(half, None, "{round}: half of a change");
    // The last `add` may have taken effect without being confirmed.
    let (others, added) = (listed(node, &[]).len() - 1, outcome.added);
    assert!(others >= added && others <= added + 1, "{round}: {others} of {added}");
}

/// Removes all tags of entry 1, and all other entries.
fn clear(node: &Node) {
    let tags = tags(node);
    if !tags.is_empty() {
        let all: Vec<&str> = tags.iter().map(String::as_str).collect();
        ok(node, &[&["untag", "1"], &all[..]].concat());
    }
    for entry in listed(node, &[]).iter().skip(1) {
        ok(node, &["rm", &entry["id"].to_string()]);
    }
}

/// The tags of entry 1.
fn tags(node: &Node) -> BTreeSet<String> {
    let entries = listed(node, &["--id", "1"]);
    let tags = entries[0]["tags"].as_array().into_iter().flatten();
    tags.filter_map(|tag| tag.as_str().map(str::to_owned)).collect()
}

/// The answers to the requests of one round. A round starts without tags and with entry 1 only.
#[derive(Default)]
struct Outcome {
    /// The tags of entry 1 by all confirmed requests.
    tags: BTreeSet<String>,
    /// The tags of a request that was not confirmed: they may be present or absent.
    unconfirmed: BTreeSet<String>,
    /// The number of confirmed `add` requests.
    added: usize,
}

/// Tags, untags and adds until the daemon is gone.
fn work(node: &Node, round: u32, sleepers: &[Sleeper], is_over: &AtomicBool) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut outcome = Outcome::default();
        let Ok(daemon) = client::Daemon::connect(&node.path().join("daemon.sock")).await else {
            return outcome;
        };
        let one = || Some(Selector { ids: vec![1], ..Default::default() }).into();
        let mut waiting = sleepers[1..].iter();
        for number in 0..20 {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let tags: Vec<String> = ["a", "b"].map(|end| format!("r{round}n{number}{end}")).into();
            let tag =
                UpdateRequest { selector: one(), add_tags: tags.clone(), ..Default::default() };
            if daemon.update(&tag).await.is_err() {
                outcome.unconfirmed.extend(tags);
                break;
            }
            outcome.tags.extend(tags.clone());
            if number % 3 == 0 {
                let untag = UpdateRequest {
                    selector: one(),
                    remove_tags: tags.clone(),
                    ..Default::default()
                };
                if daemon.update(&untag).await.is_err() {
                    outcome.unconfirmed.extend(tags);
                    break;
                }
                outcome.tags.retain(|tag| !tags.contains(tag));
            }
            if let Some(sleeper) = waiting.next() {
                let pid = sleeper.pid().parse().expect("a pid");
                if daemon.add(&AddRequest { pid, ..Default::default() }).await.is_err() {
                    break;
                }
                outcome.added += 1;
            }
        }
        outcome
    })
}

fn rand(random: &mut TestRng) -> u32 {
    use proptest::prelude::Rng as _;
    random.next_u32()
}
