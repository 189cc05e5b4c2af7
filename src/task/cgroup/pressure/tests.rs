use super::*;

/// Check that `some` and `full` are both parsed into their own fields.
#[test]
fn some_and_full_are_parsed() {
    let content = b"some avg10=1.50 avg60=0.20 avg300=0.00 total=12345\n\
          full avg10=0.00 avg60=0.00 avg300=3.25 total=7\n";
    let stats = parse(content).unwrap();
    assert_eq!((stats.some.avg10, stats.some.avg60, stats.some.total), (1.5, 0.2, 12345));
    assert_eq!((stats.full.avg300, stats.full.total), (3.25, 7));
}

/// Check that a malformed value leaves out the whole message instead of reporting no pressure.
#[test]
fn a_malformed_value_leaves_out_the_message() {
    assert_eq!(parse(b"some avg10=x avg60=0.00 avg300=0.00 total=0\n"), None);
}
