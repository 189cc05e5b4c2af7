//! Writes the cells that have changed to the terminal, with the codes of ECMA-48.

use std::io::{self, BufWriter, Stdout, Write as _};

use anstyle::{AnsiColor, Style as Codes};
use ratatui_core::{
    backend::{Backend, ClearType, WindowSize},
    buffer::Cell,
    layout::{Position, Size},
    style::{Color, Modifier},
};
use unicode_width::UnicodeWidthStr as _;

/// The size of a terminal that does not report one.
const USUAL_SIZE: Size = Size { width: 80, height: 24 };

/// The terminal of stdout.
pub(super) struct Stdio {
    out: BufWriter<Stdout>,
}

impl Stdio {
    pub(super) fn new() -> Self {
        // A frame of a large terminal fits, so that it is written at once.
        Self { out: BufWriter::with_capacity(64 << 10, io::stdout()) }
    }
}

/// The codes of a cell. The view uses few styles, so these are few.
fn codes(cell: &Cell) -> Codes {
    let mut codes = Codes::new();
    for (modifier, set) in [
        (Modifier::BOLD, Codes::bold as fn(Codes) -> Codes),
        (Modifier::DIM, Codes::dimmed),
        (Modifier::UNDERLINED, Codes::underline),
        (Modifier::REVERSED, Codes::invert),
    ] {
        if cell.modifier.contains(modifier) {
            codes = set(codes);
        }
    }
    match cell.fg {
        Color::Red => codes.fg_color(Some(AnsiColor::Red.into())),
        _ => codes,
    }
}

impl Backend for Stdio {
    type Error = io::Error;

    fn draw<'a, I: Iterator<Item = (u16, u16, &'a Cell)>>(&mut self, content: I) -> io::Result<()> {
        let mut cursor = None;
        let mut current = Codes::new();
        for (x, y, cell) in content {
            if cursor != Some((x, y)) {
                write!(self.out, "\x1b[{};{}H", y + 1, x + 1)?;
            }
            let codes = codes(cell);
            if codes != current {
                write!(self.out, "{current:#}{codes}")?;
                current = codes;
            }
            self.out.write_all(cell.symbol().as_bytes())?;
            let width = u16::try_from(cell.symbol().width()).unwrap_or(1);
            cursor = Some((x.saturating_add(width), y));
        }
        write!(self.out, "{current:#}")
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.out.write_all(b"\x1b[?25l")
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.out.write_all(b"\x1b[?25h")
    }

    /// Not asked of the terminal, of which the answer would come among the keys. The screen has no
    /// visible cursor, and each drawing sets it.
    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        write!(self.out, "\x1b[{};{}H", y + 1, x + 1)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.out.write_all(b"\x1b[2J")
    }

    fn clear_region(&mut self, clear_type: ClearType) -> io::Result<()> {
        self.out.write_all(match clear_type {
            ClearType::All => b"\x1b[2J",
            ClearType::AfterCursor => b"\x1b[0J",
            ClearType::BeforeCursor => b"\x1b[1J",
            ClearType::CurrentLine => b"\x1b[2K",
            ClearType::UntilNewLine => b"\x1b[0K",
        })
    }

    fn size(&self) -> io::Result<Size> {
        let size =
            terminal_size::terminal_size().map(|(width, height)| Size::new(width.0, height.0));
        Ok(size.filter(|size| size.width > 0 && size.height > 0).unwrap_or(USUAL_SIZE))
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::ZERO })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
