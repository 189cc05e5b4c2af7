//! What the images of many processes cost, and what is dropped beyond the limit.

use super::*;
use crate::{
    model::{Process, UnknownReason},
    observe::track::images::LARGE_BYTES_MAX,
};

/// An image with this much in its arguments.
fn large(path: &str, bytes: usize) -> Image {
    let mut args = vec![b'x'; bytes - 1];
    args.push(0);
    Image { args: Some(Args::from_nul_separated(&args)), ..(*image(path)).clone() }
}

impl Script {
    fn run(&mut self, pid: i32, image: Image) {
        self.fork(INIT, pid);
        let image = Arc::new(image);
        let lineage = lineage(INIT, 0);
        self.what(pid, What::Exec { lineage, image, cgroup: None, in_host_mounts: Some(false) });
    }

    fn large_bytes(&self) -> usize {
        self.tracker.targets[&HERE].large_bytes()
    }

    fn living(&self, pid: i32) -> Arc<Process> {
        let (_, process) = self.tracker.find(key(pid)).expect("it lives");
        process.clone()
    }

    /// The process of each start or exit since the last call.
    fn processes(&mut self, of: &str) -> Vec<Arc<Process>> {
        let emitted = self.effects().drain(..).filter_map(|effect| match effect {
            Effect::Emit(Emission { body, .. }) if body.type_name() == of => {
                Some(body.process().expect("of a process").clone())
            }
            _ => None,
        });
        emitted.collect()
    }
}

/// Check that processes with the same small image have one in memory, and with other arguments at
/// least the same paths.
#[test]
fn small_images_are_shared() {
    let mut script = Script::running();
    for pid in 300..400 {
        script.run(pid, (*image("/bin/sleep")).clone());
    }
    script.run(400, Image { args: None, ..(*image("/bin/sleep")).clone() });
    let first = script.living(300);
    assert!((301..400).all(|pid| Arc::ptr_eq(&script.living(pid).image, &first.image)));
    let path = |process: &Process| process.image.executable.as_deref().map(<[u8]>::as_ptr);
    assert_eq!(path(&script.living(400)), path(&first));
}

/// Check that beyond the limit the event of an exec has its arguments, that later events say why
/// they have none, that nothing is taken for another exec, and that what ends is counted no more.
#[test]
fn beyond_the_limit_large_arguments_are_dropped_and_processes_are_not() {
    let mut script = Script::running();
    let bytes = 10_000;
    let fitting = i32::try_from(LARGE_BYTES_MAX / (bytes + "/bin/cat".len())).expect("few");
    let pids = 1000..1000 + fitting + 50;
    for pid in pids.clone() {
        script.run(pid, large("/bin/cat", bytes));
    }
    let has_args = |process: &Arc<Process>| {
        let Image { args, unknown, .. } = &*process.image;
        match (args, unknown) {
            (Some(args), None) => args.bytes.len() == bytes,
            (None, Some(UnknownReason::Dropped)) => false,
            other => panic!("{other:?}"),
        }
    };
    let started = script.processes("process.start");
    assert_eq!(started.iter().filter(|process| has_args(process)).count(), pids.len());
    drop(started);
    let kept = pids.clone().filter(|pid| has_args(&script.living(*pid))).count();
    assert_eq!(kept, usize::try_from(fitting).expect("few"));
    assert!(script.large_bytes() <= LARGE_BYTES_MAX && script.large_bytes() > LARGE_BYTES_MAX / 2);
    // A scan reads them again.
    script.lost();
    script.scan(ScanStep::Began);
    for pid in [INIT].into_iter().chain(pids.clone()) {
        let image = if pid == INIT { image("/bin/sh") } else { Arc::new(large("/bin/cat", bytes)) };
        script.what(pid, What::Alive { lineage: lineage(INIT, 0), image, cgroup: None });
    }
    script.scan(ScanStep::Ended);
    assert_eq!(script.lines(), ["observer.gap Some(3) kernel", "scan"]);
    for pid in pids.clone() {
        script.exit(pid, 0);
    }
    script.reap();
    let ended = script.processes("process.exit");
    assert_eq!(ended.iter().filter(|process| has_args(process)).count(), kept);
    drop(ended);
    assert_eq!(script.large_bytes(), 0);
}

/// Check that a path that is long is dropped like arguments, and a short one is not.
#[test]
fn beyond_the_limit_long_paths_are_dropped_too() {
    let mut script = Script::running();
    let path = |number: i32| format!("/{number:04}{}", "d/".repeat(1900));
    for number in 0..1500 {
        script.run(1000 + number, (*image(&path(number))).clone());
    }
    let last = script.living(2499);
    assert_eq!((&last.image.executable, last.image.unknown), (&None, Some(UnknownReason::Dropped)));
    assert!(script.living(1000).image.executable.is_some());
    assert!(script.large_bytes() <= LARGE_BYTES_MAX);
    script.run(3000, large("/bin/short", 4000));
    assert_eq!(script.living(3000).image.executable, Some(b"/bin/short"[..].into()));
    // What a child inherits is no further copy.
    script.fork(1000, 4000);
    assert!(Arc::ptr_eq(&script.living(4000).image, &script.living(1000).image));
}
