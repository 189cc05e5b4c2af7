use super::*;

/// Check that both kinds are told, each in its place.
#[test]
fn some_and_full_are_told() {
    let content =
        b"some avg10=1.50 avg60=0.20 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=3.25 total=7\n";
    let stats = parse(content).unwrap();
    assert_eq!((stats.some.avg10, stats.some.avg60, stats.some.total), (1.5, 0.2, 12345));
    assert_eq!((stats.full.avg300, stats.full.total), (3.25, 7));
}

/// Check that what is not pressure is not told as none at all.
#[test]
fn a_value_that_is_no_number_leaves_the_message_out() {
    assert_eq!(parse(b"some avg10=x avg60=0.00 avg300=0.00 total=0\n"), None);
}
