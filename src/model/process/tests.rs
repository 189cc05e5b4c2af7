use proptest::prelude::*;

use super::*;

proptest! {
    /// Check that the entity id has the digits that `format!` produces.
    #[test]
    fn an_entity_id_is_hexadecimal(
        boot: u32,
        pid in 0..i32::MAX,
        start_ticks: u64,
        shift in 0..64,
    ) {
        let start_ticks = start_ticks >> shift;
        let key = ProcessKey::new(pid, start_ticks);
        let id = key.entity_id(boot).to_string();
        prop_assert_eq!(&id, &format!("{boot:08x}{pid:08x}{start_ticks:x}"));
        prop_assert_eq!(ProcessKey::of_entity_id(&id), Some(key));
    }

    /// Check that a text that is no entity id has no key.
    #[test]
    fn another_text_is_no_entity_id(text in "[0-9a-gé+-]{0,40}") {
        let is_id = (17..=32).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            && text.as_bytes()[8] < b'8';
        if !is_id {
            prop_assert_eq!(ProcessKey::of_entity_id(&text), None);
        }
    }
}

/// Check that two keys with the same pid may be of one process, unless both starts are known and
/// differ.
#[test]
fn keys_differ_by_pid_or_by_known_starts() {
    let key = ProcessKey::new(7, 100);
    let bare = ProcessKey { pid: 7, start: None };
    assert!(
        key.may_be_same(key)
            && key.may_be_same(bare)
            && bare.may_be_same(key)
            && bare.may_be_same(bare)
    );
    assert!(!key.may_be_same(ProcessKey::new(7, 101)) && !key.may_be_same(ProcessKey::new(8, 100)));
    assert!(!bare.may_be_same(ProcessKey { pid: 8, start: None }));
    assert_eq!(key.compare_starts(ProcessKey::new(7, 101)), Some(Ordering::Less));
    assert_eq!((key.compare_starts(bare), bare.compare_starts(bare)), (None, None));
}

/// Check that an unknown start takes no more memory than a known one.
#[test]
fn an_unknown_start_needs_no_memory() {
    assert_eq!(size_of::<Option<StartTicks>>(), size_of::<u64>());
    assert_eq!(ProcessKey::new(7, 0), ProcessKey { pid: 7, start: None });
    assert_eq!(ProcessKey::new(7, 0).start_ticks(), 0);
}
