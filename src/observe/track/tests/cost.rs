//! The cost of a record, measured by hand after a change of the tracker.

use std::time::Instant;

use super::*;

/// Check that a storm of fork, exec, exit and done costs less than ten times its budget of 300 ns a
/// record. Run it optimised: `cargo test --release --lib the_cost_of_a_record -- --ignored
/// --nocapture`.
#[test]
#[ignore = "a measurement: needs an optimised build on an idle machine"]
fn the_cost_of_a_record() {
    let mut script = Script::running();
    let image = image("/bin/true");
    let lives: u64 = 400_000;
    let began = Instant::now();
    for life in 0..lives {
        let pid = 1000 + i32::try_from(life % 30_000).expect("small");
        let key = ProcessKey::new(pid, 6000 + life);
        let mut record = |what: What| {
            script.now += 1;
            let record = Record::Process {
                target: HERE,
                at_ns: script.now,
                grade: Grade::Exact,
                key,
                provenance: None,
                what,
            };
            script.tracker.record(record);
        };
        record(What::Fork(lineage(INIT, 0)));
        let image = image.clone();
        record(What::Exec {
            lineage: lineage(INIT, 0),
            image,
            cgroup: None,
            in_host_mounts: Some(false),
        });
        record(exit(Some(0)));
        // The answers are late and in batches, as those of pidfds.
        if life % 64 == 63 {
            for effect in script.tracker.take_effects() {
                if let Effect::QueryReaped { target, key } = effect {
                    script.tracker.confirm_reaped(target, key, script.now);
                }
            }
            drop(script.tracker.take_effects());
        }
    }
    let each = began.elapsed().as_nanos() / u128::from(lives * 3);
    println!("{each} ns a record, its share of done included");
    assert!(each < 3000, "{each} ns");
}
