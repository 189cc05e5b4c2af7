use containerd_shim_protos::protobuf::Message as _;
use proptest::prelude::*;

use crate::{
    api,
    wire::{Value, Writer, field},
};

proptest! {
    /// Check that the protobuf library decodes fields of any length that `wire` wrote.
    #[test]
    fn the_protobuf_library_decodes_written_fields(
        pid in any::<i32>(),
        created in any::<u64>(),
        vpid in proptest::option::of(any::<i32>()),
        comm in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
        args in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..80),
        truncated: bool,
        before in 0_usize..3,
    ) {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        for _ in 0..before {
            writer.message(1, |event| event.number(1, 7));
        }
        writer.message(1, |event| {
            event.message(10, |process| {
                process.signed(1, pid);
                process.optional_signed(2, vpid);
                process.number(5, created);
                for arg in &args {
                    process.optional_bytes(9, Some(arg));
                }
                process.flag(12, truncated);
                process.optional_bytes(23, comm.as_ref());
            });
        });
        let batch = api::EventBatch::parse_from_bytes(&bytes).expect("valid");
        prop_assert_eq!(batch.events.len(), before + 1);
        let Some(api::event::Body::Process(process)) = &batch.events[before].body else {
            panic!("no process")
        };
        let expected = api::Process {
            pid,
            vpid,
            created_ns: created,
            args,
            args_truncated: truncated,
            comm,
            ..Default::default()
        };
        prop_assert_eq!(process, &expected);
        if before == 0 {
            let Some(Value::Bytes(event)) = field(&bytes, 1) else { panic!("no event") };
            let Some(Value::Bytes(process)) = field(event, 10) else { panic!("no process") };
            prop_assert_eq!(field(process, 5), (created > 0).then_some(Value::Number(created)));
            prop_assert_eq!(field(process, 9), expected.args.first().map(|arg| Value::Bytes(arg)));
            prop_assert_eq!(field(process, 23), expected.comm.as_deref().map(Value::Bytes));
            prop_assert_eq!(field(process, 24), None);
        }
    }
}
