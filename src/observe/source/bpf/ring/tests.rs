use super::*;

/// Check that the pause in a storm lasts until a quarter of the ring is full, at most 4 ms, and
/// that there is no pause at a lower rate.
#[test]
fn a_storm_makes_the_reader_pause() {
    let of = |bytes, millis| pause(bytes, Duration::from_millis(millis), 128 << 10);
    assert_eq!(of(12 << 10, 1), Duration::from_micros(2666));
    assert_eq!(of(48 << 10, 4), Duration::from_micros(2666));
    assert_eq!(of(2 << 10, 1), Duration::from_millis(4));
    assert_eq!(of(128 << 10, 1), Duration::from_micros(250));
    assert_eq!((of(0, 0), of(2000, 0)), (Duration::ZERO, Duration::ZERO));
    assert_eq!((of(2000, 1), of(20_000, 10)), (Duration::ZERO, Duration::ZERO));
}
