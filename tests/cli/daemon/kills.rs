//! What a killed daemon leaves: all that was answered, and nothing that was not asked.

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

/// How often it is killed.
const KILLS: u32 = 200;

/// Check that a daemon that is killed at 200 random moments, while entries are added, tagged and
/// removed, has everything after each restart that was answered, and nothing of what was not asked;
/// and of a command whose answer did not come, all or nothing.
#[test]
fn nothing_that_was_answered_is_lost() {
    let node = Node::new();
    let sleepers: Vec<Sleeper> = (0..8).map(|_| Sleeper::new()).collect();
    let seed = std::process::id();
    eprintln!("seed {seed}");
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed.to_ne_bytes(); 8].concat());
    // Tags of the entry that all of them change, and what a command whose answer did not come may
    // have added.
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut answered = 0;
    let daemon = Daemon::start(&node);
    ok(&node, &["add", &sleepers[0].pid()]);
    daemon.term();
    for round in 0..KILLS {
        let daemon = Daemon::start(&node);
        let after = Duration::from_micros(u64::from(rand(&mut random)) % 30_000);
        let is_over = &AtomicBool::new(false);
        let told = thread::scope(|scope| {
            let worker = scope.spawn(|| work(&node, round, &sleepers, is_over));
            thread::sleep(after);
            daemon.kill();
            is_over.store(true, Ordering::Relaxed);
            worker.join().expect("it counts")
        });
        answered += told.answered.len();
        let daemon = Daemon::start(&node);
        let entries = listed(&node, &["--id", "1"]);
        let words = |value: &serde_json::Value| {
            value
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|tag| tag.as_str().map(str::to_owned))
                .collect()
        };
        let now: BTreeSet<String> = words(&entries[0]["tags"]);
        for removed in &told.removed {
            known.remove(removed);
        }
        known.extend(told.answered);
        let unsure: BTreeSet<String> = told.unsure.into_iter().collect();
        let lost: Vec<_> = known.difference(&now).filter(|tag| !unsure.contains(*tag)).collect();
        assert!(lost.is_empty(), "round {round}, killed after {after:?}: {lost:?} is lost");
        let strange: Vec<_> = now.difference(&known).filter(|tag| !unsure.contains(*tag)).collect();
        assert!(strange.is_empty(), "round {round}: nobody asked for {strange:?}");
        // Two words of one command come together.
        let half = now
            .iter()
            .filter(|tag| tag.ends_with('a'))
            .find(|tag| !now.contains(&tag.replace('a', "b")));
        assert_eq!(half, None, "round {round}: half of a command");
        known = now;
        let others = listed(&node, &[]).len() - 1;
        assert!(
            others >= told.added && others <= told.added + 1,
            "round {round}: {others} of {}",
            told.added
        );
        // Room for the next round.
        if !known.is_empty() {
            let all: Vec<&str> = known.iter().map(String::as_str).collect();
            ok(&node, &[&["untag", "1"], &all[..]].concat());
            known.clear();
        }
        for entry in listed(&node, &[]).iter().skip(1) {
            ok(&node, &["rm", &entry["id"].to_string()]);
        }
        daemon.kill();
    }
    assert!(answered > 200, "only {answered} commands were answered: nothing was tested");
    let _daemon = Daemon::start(&node);
    assert!(!super::log_of(&node).contains("damaged"), "{}", super::log_of(&node));
    assert_eq!(run(&node, &["list", "-q"]).out, "1\n");
}

/// What was told of one round's commands.
#[derive(Default)]
struct Told {
    answered: Vec<String>,
    removed: Vec<String>,
    unsure: Vec<String>,
    added: usize,
}

/// Tags, untags and adds until the daemon is gone.
fn work(node: &Node, round: u32, sleepers: &[Sleeper], is_over: &AtomicBool) -> Told {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut told = Told::default();
        let Ok(daemon) = client::Daemon::connect(&node.path().join("daemon.sock")).await else {
            return told;
        };
        let one = || Some(Selector { ids: vec![1], ..Default::default() }).into();
        let mut waiting = sleepers[1..].iter();
        for number in 0..20 {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let words: Vec<String> = ["a", "b"].map(|end| format!("r{round}n{number}{end}")).into();
            let tag =
                UpdateRequest { selector: one(), add_tags: words.clone(), ..Default::default() };
            if daemon.update(&tag).await.is_err() {
                told.unsure.extend(words);
                break;
            }
            told.answered.extend(words.clone());
            if number % 3 == 0 {
                let untag = UpdateRequest {
                    selector: one(),
                    remove_tags: words.clone(),
                    ..Default::default()
                };
                if daemon.update(&untag).await.is_err() {
                    told.unsure.extend(words);
                    break;
                }
                told.answered.retain(|tag| !words.contains(tag));
                told.removed.extend(words);
            }
            if let Some(sleeper) = waiting.next() {
                let pid = sleeper.pid().parse().expect("a pid");
                if daemon.add(&AddRequest { pid, ..Default::default() }).await.is_err() {
                    break;
                }
                told.added += 1;
            }
        }
        told
    })
}

fn rand(random: &mut TestRng) -> u32 {
    use proptest::prelude::Rng as _;
    random.next_u32()
}
