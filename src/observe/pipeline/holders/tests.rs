use std::{
    fs::File,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
};

use super::*;
use crate::platform::process::identify;

const GREEDY: TargetId = TargetId(1);
const MODEST: TargetId = TargetId(2);

/// This test's own process, and a pipe that it holds.
fn held() -> (ProcessKey, [Option<FileId>; 2], (std::io::PipeReader, std::io::PipeWriter)) {
    let me = identify(std::process::id().cast_signed()).unwrap();
    let pipe = std::io::pipe().unwrap();
    let number = pipe.1.as_raw_fd();
    let end = std::fs::metadata(format!("/proc/self/fd/{number}")).unwrap();
    let file = FileId { device: end.dev(), inode: end.ino() };
    (me, [Some(file), None], pipe)
}

/// Check that the questions that wait are answered by one search, each with its own outputs.
#[test]
fn one_search_answers_all_questions_that_wait() {
    let (me, outputs, _pipe) = held();
    let mut searches = HolderSearches::new();
    let dead = |pid| ProcessKey { pid, start: None };
    searches.ask(GREEDY, dead(10), outputs, vec![me]);
    searches.ask(GREEDY, dead(11), [Some(FileId { device: 1, inode: 1 }), None], vec![me]);
    let mut answers = Vec::new();
    while searches.due_after().is_some() {
        answers.extend(searches.advance());
    }
    assert_eq!(answers, [(GREEDY, dead(10), vec![me]), (GREEDY, dead(11), vec![])]);
}

/// Check that searches without end take their share of the time and no more, and that another
/// target's question is answered meanwhile.
#[test]
fn searches_take_a_share_of_the_time() {
    let (me, outputs, _pipe) = held();
    let mut searches = HolderSearches::new();
    let many: Vec<File> = (0..400).map(|_| File::open("/dev/null").unwrap()).collect();
    let (began, mut busy, mut answered) = (Instant::now(), Duration::ZERO, 0);
    while began.elapsed() < Duration::from_secs(1) {
        if !searches.of_targets.contains_key(&GREEDY) {
            searches.ask(GREEDY, me, outputs, vec![me; 4]);
        }
        if !searches.of_targets.contains_key(&MODEST) {
            searches.ask(MODEST, me, [Some(FileId { device: 1, inode: 1 }), None], vec![]);
        }
        std::thread::sleep(searches.due_after().unwrap());
        let slice = Instant::now();
        answered += searches.advance().iter().filter(|(id, ..)| *id == MODEST).count();
        busy += slice.elapsed();
    }
    drop(many);
    // Ten milliseconds at once, and then one in ten; twice that, because a slice may be
    // interrupted.
    assert!(busy < Duration::from_millis(220), "{busy:?}");
    assert!(answered > 10, "{answered}");
}
