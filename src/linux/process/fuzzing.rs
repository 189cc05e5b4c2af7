//! The fuzz target of the files of a process.

use std::hint::black_box;
use std::io::Cursor;

use super::{
    holders::inode_of_fdinfo,
    image::{ARGS_LIMIT, args_of, under_root, without_deleted_mark},
    socket_holders::socket_inode,
    stat::Stat,
    status::Status,
    usage::io_of,
};

/// Parses a file or a link. Its first byte chooses the format.
pub(crate) fn process_files(bytes: &[u8]) {
    let Some((format, text)) = bytes.split_first() else { return };
    match format {
        b's' => {
            let Some(stat) = Stat::parse(text) else { return };
            assert!(stat.comm.len() < text.len());
            assert!(stat.parent.is_none_or(|pid| pid > 0));
            assert!(stat.is_dead() || !stat.is_zombie());
            black_box((stat.start(), stat.has_running_thread()));
        }
        b'u' => {
            black_box(Status::parse(text));
        }
        b'i' => {
            black_box(io_of(text));
        }
        b'a' => arguments(text),
        b'e' => {
            let whole = || text.to_vec().into_boxed_slice();
            let (path, deleted) = without_deleted_mark(whole(), || true);
            assert!(path.is_some_and(|path| path.len() + usize::from(deleted) * 10 == text.len()));
            assert_eq!(without_deleted_mark(whole(), || false), (Some(whole()), false));
            let mut parts = text.splitn(2, |byte| *byte == b'\n');
            let (root, path) = (parts.next(), parts.next().unwrap_or_default());
            let shown = under_root(path.into(), root);
            assert!(shown.len() <= path.len().max(1) && (path.is_empty() || !shown.is_empty()));
        }
        b'd' => {
            black_box(inode_of_fdinfo(text));
        }
        b'f' => {
            let _ = black_box(str::from_utf8(text).map(socket_inode));
        }
        _ => {}
    }
}

/// The arguments of a process, the length of which its `stat` states.
fn arguments(text: &[u8]) {
    let line = b"1 (x) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 9 0 0 0 0 0 0 0 0 0 0 0 0 0 \
        0 0 0 0 0 0 0 0 0 0 0 4096 9000 0 0 0";
    let stat = Stat::parse(line).expect("it is a line");
    let Ok(args) = args_of(Cursor::new(text), &stat) else { return assert!(text.is_empty()) };
    assert!(args.bytes.len() <= ARGS_LIMIT && text.starts_with(&args.bytes));
    assert_eq!(args.count as usize, text.split_inclusive(|byte| *byte == 0).count());
}
