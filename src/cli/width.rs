//! Texts that fit into the width of a terminal: CJK takes two columns, a combining accent none.

use std::borrow::Cow;

use unicode_truncate::UnicodeTruncateStr as _;
use unicode_width::UnicodeWidthStr as _;

/// Where a text that is too wide is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    End,
    /// The beginning and the end stay: they distinguish commands, paths and ids.
    Middle,
}

/// Cuts a text at a width, with an ellipsis.
pub(super) fn cut(text: &str, width: usize, place: Cut) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let left = width.saturating_sub(1);
    Cow::Owned(match place {
        Cut::End => text.unicode_truncate(left).0.to_owned() + "…",
        Cut::Middle => {
            let end = left / 3;
            let (begin, end) =
                (text.unicode_truncate(left - end).0, text.unicode_truncate_start(end).0);
            format!("{begin}…{end}")
        }
    })
}

/// Cuts a line at its end, so that it takes at most this many columns of a terminal, and removes
/// trailing blanks.
pub(super) fn cut_end(line: &str, width: usize) -> String {
    cut(line.trim_end(), width, Cut::End).into_owned()
}

/// Cuts a text in the middle, so that it takes at most this many columns of a terminal.
pub(super) fn cut_middle(text: &str, width: usize) -> Cow<'_, str> {
    cut(text, width, Cut::Middle)
}
