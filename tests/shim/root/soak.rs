//! Many runs and execs in one pod: what its shim and the node hold does not grow.
//!
//! `hack/soak` runs more of them and prints the slopes.

use super::setting;
use crate::harness::{
    Process,
    containerd::{Containerd, Holdings, Version},
    deadline,
};

/// How many runs, and as many execs, there are if `LOOKOUT_SOAK_RUNS` is not set.
const RUNS: u64 = 60;

/// How often the resources are measured.
const SAMPLES: u64 = 10;

/// How many samples fill caches and the journal, and the heap with the gaps that runs leave in it.
const WARM_UP: usize = 6;

/// The most growth of memory from one sample to the next after these: the noise of the allocator.
const NOISE_KIB: f64 = 42.0;

const POD: [&str; 2] = ["--annotation", "io.containerd.runc.v2.group=pod"];

/// Check that after many runs and execs the shim of a pod has as many descriptors, threads and
/// children as before, the node as many files of it, and that its memory does not grow.
#[test]
fn nothing_grows_with_runs_and_execs() {
    let runs = setting("LOOKOUT_SOAK_RUNS").unwrap_or(RUNS);
    // A small journal is full before the memory is compared.
    let containerd = Containerd::start_configured(Version::V2_1, "journal_max = \"64KiB\"\n");
    containerd.detached("pod", &POD, &["sleep", "100000"]);
    let shim = containerd.shim("pod");
    let (before, files) = at_rest(&containerd, shim);
    let mut memory = Vec::new();
    for sample in 0..SAMPLES {
        for number in 0..runs.div_ceil(SAMPLES) {
            let id = format!("c{sample}-{number}");
            let flags = [&["--rm"], &POD[..]].concat();
            containerd.run(&id, &flags, &["sh", "-c", "exit 3"]).run().exit_code(3);
            containerd.exec("pod", &[], &["sh", "-c", "echo out; exit 5"]).run().exit_code(5);
        }
        let (now, files_now) = at_rest(&containerd, shim);
        assert_eq!((&now, files_now), (&before, files), "sample {sample}");
        memory.push(shim.resident_kib() as f64);
    }
    let warm = &memory[WARM_UP..];
    let (slope, error) = slope(warm);
    let of_thousand = slope / runs.div_ceil(SAMPLES) as f64 * 1000.0;
    println!(
        "{runs} runs and execs: {} descriptors, {} threads, {files} files as before; memory \
         {memory:?} KiB, slope {slope:.1} ± {error:.1} KiB a sample \
         ({of_thousand:.1} KiB for 1000)",
        now_descriptors(&before),
        before.threads,
    );
    assert!(slope < NOISE_KIB || slope < 2.0 * error, "the memory grows: {memory:?}");
    containerd.remove("pod");
    containerd.assert_nothing_left();
}

fn now_descriptors(holdings: &Holdings) -> usize {
    holdings.descriptors.values().sum()
}

/// The resources of the shim and the number of things of the test's containers on the node, once
/// they are what they were for a second.
fn at_rest(containerd: &Containerd, shim: Process) -> (Holdings, usize) {
    let mut last = None;
    let mut since = std::time::Instant::now();
    deadline::find("the shim to be at rest", || {
        let now = (Holdings::of(shim), containerd.leftovers().len());
        if last.as_ref() != Some(&now) {
            (last, since) = (Some(now), std::time::Instant::now());
            return None;
        }
        (since.elapsed().as_secs() >= 1).then(|| last.clone())?
    })
}

/// The slope of a line through values at 0, 1, 2…, and its standard error.
fn slope(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let (mean_x, mean_y) = ((count - 1.0) / 2.0, values.iter().sum::<f64>() / count);
    let points = || values.iter().enumerate().map(|(x, y)| (x as f64 - mean_x, y - mean_y));
    let spread: f64 = points().map(|(x, _)| x * x).sum();
    let slope = points().map(|(x, y)| x * y).sum::<f64>() / spread;
    let residual: f64 = points().map(|(x, y)| (y - slope * x).powi(2)).sum();
    (slope, (residual / (count - 2.0) / spread).sqrt())
}
