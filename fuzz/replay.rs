//! Runs the inputs in files and directories once: `replay TARGET PATH...`. Without arguments it
//! prints the names of the targets. Built without the fuzzer's instrumentation, to measure line coverage.

use std::{env, fs, path::Path};

use lookout::fuzzing::TARGETS;

fn main() {
    let mut arguments = env::args().skip(1);
    let Some(name) = arguments.next() else {
        TARGETS.iter().for_each(|(name, _)| println!("{name}"));
        return;
    };
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = found.unwrap_or_else(|| panic!("there is no target {name}"));
    let inputs: usize = arguments.map(|path| run(target, Path::new(&path))).sum();
    assert!(inputs > 0, "there are no inputs");
}

fn run(target: &lookout::fuzzing::Target, path: &Path) -> usize {
    if !path.is_dir() {
        target(&fs::read(path).expect("the input can be read"));
        return 1;
    }
    let entries = fs::read_dir(path).expect("the directory can be read");
    entries.map(|entry| run(target, &entry.expect("it is listed").path())).sum()
}
