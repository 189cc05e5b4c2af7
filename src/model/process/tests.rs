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
        let id = ProcessKey { pid, start_ticks }.entity_id(boot);
        prop_assert_eq!(id.to_string(), format!("{boot:08x}{pid:08x}{start_ticks:x}"));
    }
}
