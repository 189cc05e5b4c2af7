use proptest::prelude::*;

use super::*;

proptest! {
    /// Check that arbitrary bytes can be searched without a panic.
    #[test]
    fn any_bytes_can_be_searched(
        bytes in proptest::collection::vec(any::<u8>(), 0..60),
        number in 0..30_u32,
    ) {
        if let Some(Value::Bytes(found)) = field(&bytes, number) {
            prop_assert!(found.len() < bytes.len());
        }
    }
}
