//! The fuzz target of the records in the ring.

use super::{decode::decode, layout::Plain as _};
use crate::{
    model::ProcessKey,
    observe::record::{Record, What},
};

/// Decodes a record. The inode number of the mount namespace is that of the first record of the
/// corpus.
pub(crate) fn record(bytes: &[u8]) {
    let Ok(decoded) = decode(bytes, Some(0xf000_0000)) else { return };
    assert_eq!(decoded.length, bytes.len());
    // The lengths in a record must not make its decoded form much longer than the record.
    match &decoded.record {
        Record::Process { what: What::Exec { image, .. }, key, .. } => {
            let texts = [&image.executable, &image.working_directory].map(Option::as_ref);
            let texts = texts.into_iter().flatten().map(|text| text.len());
            let args = image.args.as_ref().map_or(0, |args| args.bytes.len());
            assert!(texts.sum::<usize>() + args <= bytes.len() + 4);
            assert_eq!(*key, key_of(bytes));
        }
        Record::Process { key, .. } => assert_eq!(*key, key_of(bytes)),
        _ => {}
    }
}

fn key_of(bytes: &[u8]) -> ProcessKey {
    let header = super::layout::Header::from_bytes(bytes).expect("it was decoded");
    ProcessKey::from_boottime(header.tgid.cast_signed(), header.start_ns)
}
