//! Parts of a module that depend on each other.

use super::found;
use crate::cycles::lines;

#[test]
fn two_parts_that_name_each_other_are_a_circle() {
    let files = [
        ("src/observe/track.rs", "use super::source::Record;"),
        ("src/observe/source.rs", "\nuse crate::observe::track::Tracker;"),
    ];
    let expected = "observe: source -> track src/observe/source.rs:2, \
                    track -> source src/observe/track.rs:1";
    assert_eq!(lines(&found(&files)), [expected]);
}

#[test]
fn a_circle_through_a_third_part_and_inside_a_part_is_found() {
    let files = [
        ("src/observe.rs", "mod track; mod source; mod pipeline;"),
        ("src/observe/track.rs", "mod deep;"),
        ("src/observe/track/deep.rs", "fn f() { crate::observe::source::g() }"),
        ("src/observe/source.rs", "use super::pipeline::Pipeline;"),
        ("src/observe/pipeline.rs", "type T = super::track::Tracker;"),
    ];
    let circles = lines(&found(&files));
    assert_eq!(circles.len(), 1, "{circles:?}");
    assert!(circles[0].contains("track -> source src/observe/track/deep.rs:1"), "{circles:?}");
}

#[test]
fn one_direction_and_tests_are_no_circle() {
    let files = [
        ("src/observe/track.rs", "use super::source::Record;"),
        ("src/observe/source.rs", "mod tests { use crate::observe::track::Tracker; }"),
    ];
    assert_eq!(lines(&found(&files)), [""; 0]);
}
