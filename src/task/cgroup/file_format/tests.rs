use super::*;

#[derive(Debug, Default, PartialEq)]
struct Two {
    cache: u64,
    rss: u64,
}

const FIELDS: &[Field<Two>] = &[("cache", |two| &mut two.cache), ("rss", |two| &mut two.rss)];

/// Check that known keys are read, and that only malformed lines are skipped.
#[test]
fn a_malformed_line_is_skipped() {
    let mut two = Two::default();
    fill(&mut two, FIELDS, b"cache 12\nnew_in_7_2 3\nrss many\nrss 1 2\n\xff 1\n\nrss 7\n");
    assert_eq!(two, Two { cache: 12, rss: 7 });
}

/// Check that a negative sum is 0, as in the Go library.
#[test]
fn a_negative_count_is_zero() {
    assert_eq!(value(b"cache -4096\n", "cache"), Some(0));
}

/// Check that `max` has the value that the caller passes.
#[test]
fn max_has_the_callers_value() {
    assert_eq!(number(b"max\n", u64::MAX), Some(u64::MAX));
    assert_eq!(number(b"max\n", 0), Some(0));
    assert_eq!(number(b"9223372036854771712\n", 0), Some(9_223_372_036_854_771_712));
    assert_eq!(number(b"18446744073709551616\n", 0), None);
    assert_eq!(number(b"", 0), None);
}

/// Check that no content makes the parsers panic.
#[test]
fn no_content_panics() {
    proptest::proptest!(|(content: Vec<u8>)| {
        pairs(&content).count();
        number(&content, 0);
    });
}
