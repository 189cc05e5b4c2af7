//! What a terminal shows: enough of one for the codes that `lookout top` writes. Any other code is
//! a failure of the test.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use lookout::sys::pty::set_size;
use unicode_width::UnicodeWidthChar as _;

/// A terminal of which a thread reads what is written to it.
pub(super) struct Shown {
    master: File,
    screen: Arc<Mutex<Screen>>,
}

impl Shown {
    pub(super) fn of(master: OwnedFd, size: (u16, u16)) -> Self {
        let mut master = File::from(master);
        let screen = Arc::new(Mutex::new(Screen::new(size)));
        let shown = Self { master: master.try_clone().expect("a descriptor"), screen };
        let screen = shown.screen.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // At the end of its other side, reading a terminal fails.
            while let Ok(count @ 1..) = master.read(&mut bytes) {
                screen.lock().expect("no panic").write(&bytes[..count]);
            }
        });
        shown
    }

    pub(super) fn press(&self, keys: &[u8]) {
        (&self.master).write_all(keys).expect("a terminal");
    }

    /// The lines of the screen, without trailing blanks.
    pub(super) fn lines(&self) -> Vec<String> {
        self.screen().lines()
    }

    pub(super) fn is_alternate(&self) -> bool {
        self.screen().is_alternate
    }

    pub(super) fn has_cursor(&self) -> bool {
        !self.screen().is_cursor_hidden
    }

    /// Writes as another program does.
    pub(super) fn write(&self, bytes: &[u8]) {
        self.screen().write(bytes);
    }

    /// Resizes the terminal. What was written stays where it was, as far as it fits.
    pub(super) fn resize(&self, size: (u16, u16)) {
        self.screen().resize(size);
        set_size(self.master.as_fd(), size.0, size.1).expect("a terminal");
    }

    fn screen(&self) -> MutexGuard<'_, Screen> {
        self.screen.lock().expect("every code is known")
    }
}

struct Screen {
    width: usize,
    /// Of a wide character the second cell is empty.
    cells: Vec<Vec<String>>,
    cursor: (usize, usize),
    pending: Vec<u8>,
    is_alternate: bool,
    is_cursor_hidden: bool,
}

impl Screen {
    fn new((width, height): (u16, u16)) -> Self {
        let width = usize::from(width);
        Self {
            width,
            cells: vec![vec![" ".to_owned(); width]; usize::from(height)],
            cursor: (0, 0),
            pending: Vec::new(),
            is_alternate: false,
            is_cursor_hidden: false,
        }
    }

    fn lines(&self) -> Vec<String> {
        self.cells.iter().map(|line| line.concat().trim_end().to_owned()).collect()
    }

    fn resize(&mut self, (width, height): (u16, u16)) {
        self.width = usize::from(width);
        self.cells.resize(usize::from(height), Vec::new());
        self.cells.iter_mut().for_each(|line| line.resize(usize::from(width), " ".to_owned()));
    }

    fn clear(&mut self) {
        self.cells.iter_mut().flatten().for_each(|cell| " ".clone_into(cell));
    }

    fn write(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.pending);
        // The rest may be a part of a character, or of a code.
        let valid = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => {
                std::str::from_utf8(&bytes[..error.valid_up_to()]).expect("it is valid up to there")
            }
        };
        let mut rest = valid;
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '\x1b' => {
                    let Some(end) =
                        rest.get(2..).and_then(|it| it.find(|c| ('@'..='~').contains(&c)))
                    else {
                        break;
                    };
                    self.code(&rest[1..2 + end + 1]);
                    2 + end + 1
                }
                '\r' => {
                    self.cursor.0 = 0;
                    1
                }
                '\n' => {
                    self.cursor.1 = (self.cursor.1 + 1).min(self.cells.len() - 1);
                    1
                }
                first => {
                    self.put(first);
                    first.len_utf8()
                }
            };
            rest = &rest[length..];
        }
        self.pending = bytes[valid.len() - rest.len()..].to_vec();
    }

    fn put(&mut self, character: char) {
        let width = character.width().unwrap_or_else(|| panic!("{character:?} has reached it"));
        let (x, y) = self.cursor;
        let Some(line) = self.cells.get_mut(y) else { return };
        if width == 0 {
            // It belongs to the character before.
            if let Some(cell) = x.checked_sub(1).and_then(|x| line.get_mut(x)) {
                cell.push(character);
            }
            return;
        }
        if let Some(cell) = line.get_mut(x) {
            *cell = character.to_string();
        }
        if let (2, Some(cell)) = (width, line.get_mut(x + 1)) {
            cell.clear();
        }
        self.cursor.0 += width;
    }

    fn code(&mut self, code: &str) {
        match code {
            "[2J" => self.clear(),
            "[?1049h" | "[?1049l" => {
                self.is_alternate = code.ends_with('h');
                self.clear();
                self.cursor = (0, 0);
            }
            "[?25h" => self.is_cursor_hidden = false,
            "[?25l" => self.is_cursor_hidden = true,
            "[H" => self.cursor = (0, 0),
            _ if code.ends_with('m') => {}
            _ => {
                let place = code.strip_prefix('[').and_then(|code| code.strip_suffix('H'));
                let (y, x) = place.and_then(|place| place.split_once(';')).expect(code);
                let number = |text: &str| text.parse::<usize>().expect("a number") - 1;
                self.cursor = (number(x), number(y));
            }
        }
    }
}
