//! The state of the screen. Pure: a message changes it, and what is to be done comes back.

use std::collections::HashSet;

use super::{
    data::{Change, Data},
    dialog::{Dialog, Outcome},
    keyboard::Key,
    layout::{Layout, Pane},
    tree::{Arrangement, Row, RowId},
};
use crate::{
    cli::{args::registry::SortOrder, output::Style, select::Scope},
    model::{ProcessKey, printable},
};

/// Something that the state is to know.
#[derive(Debug)]
pub(super) enum Message {
    Key(Key),
    /// The size of the terminal.
    Resized {
        width: u16,
        height: u16,
    },
    Changed(Change),
    /// The time, in nanoseconds since 1970.
    Now(u64),
    /// What came of sending a signal.
    Signalled(String),
}

/// Something that is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Quit,
    Suspend,
    /// Draw the whole screen again.
    Redraw,
    Signal {
        key: ProcessKey,
        signal: i32,
    },
}

/// What the keys do.
#[derive(Debug)]
pub(super) enum Mode {
    List,
    /// A text for the filter is typed.
    Filter,
    Kill(Dialog),
    Help,
}

pub(super) struct State {
    /// What is shown, such as the name of a container. Safe to print.
    pub(super) title: String,
    pub(super) style: Style,
    pub(super) data: Data,
    pub(super) mode: Mode,
    pub(super) arrangement: Arrangement,
    pub(super) pane: Pane,
    pub(super) rows: Vec<Row>,
    /// The index of the selected row.
    pub(super) selected: usize,
    /// Which row is selected, so that the selection stays on it when rows move.
    selected_id: Option<RowId>,
    /// The index of the first row on the screen, and of the first line of the details.
    pub(super) first: usize,
    pub(super) details_first: usize,
    pub(super) size: (u16, u16),
    pub(super) now_ns: u64,
    /// What came of the last action; until the next key.
    pub(super) result: Option<String>,
    is_stale: bool,
}

impl State {
    pub(super) fn new(title: &str, sort: SortOrder, style: Style, now_ns: u64) -> Self {
        Self {
            title: printable::safe_text(title.as_bytes()),
            style,
            data: Data::new(style),
            mode: Mode::List,
            arrangement: Arrangement {
                sort,
                is_reversed: false,
                is_flat: false,
                filter: String::new(),
                folded: HashSet::new(),
            },
            pane: Pane::Exits,
            rows: Vec::new(),
            selected: 0,
            selected_id: None,
            first: 0,
            details_first: 0,
            size: (80, 24),
            now_ns,
            result: None,
            is_stale: false,
        }
    }

    /// Sets which containers are shown.
    pub(super) fn set_scope(&mut self, scope: Scope) {
        self.data.scope = Some(scope);
        self.is_stale = true;
    }

    pub(super) fn update(&mut self, message: Message) -> Option<Effect> {
        match message {
            Message::Key(key) => {
                // A key refers to the rows that the user sees, which are those of the last frame.
                self.result = None;
                return self.press(key);
            }
            Message::Resized { width, height } => {
                self.size = (width, height);
                self.scroll();
            }
            Message::Changed(change) => {
                self.data.apply(change);
                self.is_stale = true;
            }
            Message::Now(now_ns) => self.now_ns = now_ns,
            Message::Signalled(text) => self.result = Some(text),
        }
        None
    }

    /// Arranges the rows anew if something has changed. To be called before each frame, and not
    /// with each change, of which there may be thousands in a second.
    pub(super) fn refresh(&mut self) {
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        let groups = self.data.groups();
        if let Mode::Kill(dialog) = &mut self.mode {
            let mut processes = groups.iter().flat_map(|group| &group.processes);
            if !processes.any(|process| process.entity_id == dialog.entity_id) {
                dialog.end();
            }
        }
        self.rows = self.arrangement.rows(groups);
        let at = |id: &RowId| self.rows.iter().position(|row| row.id == *id);
        // If the selected row is gone, the one in its place is selected.
        let selected = self.selected_id.as_ref().and_then(at).unwrap_or(self.selected);
        self.select(selected);
    }

    pub(super) fn selected_row(&self) -> Option<&Row> {
        self.rows.get(self.selected)
    }

    pub(super) fn layout(&self) -> Layout {
        Layout::of(self.size.1, self.pane)
    }

    /// The container, or the registered processes, to which a row belongs.
    pub(super) fn group_of(&self, mut at: usize) -> Option<&Row> {
        while let Some(parent) = self.rows.get(at)?.parent {
            at = parent;
        }
        self.rows.get(at)
    }

    fn press(&mut self, key: Key) -> Option<Effect> {
        match key {
            Key::Ctrl('c') => return Some(Effect::Quit),
            Key::Ctrl('z') => return Some(Effect::Suspend),
            Key::Ctrl('l') => return Some(Effect::Redraw),
            _ => {}
        }
        match &mut self.mode {
            Mode::List => return self.press_in_list(key),
            Mode::Filter => self.press_in_filter(key),
            Mode::Help => self.mode = Mode::List,
            Mode::Kill(dialog) => match dialog.press(key) {
                Outcome::Open => {}
                Outcome::Closed => self.mode = Mode::List,
                Outcome::Send(signal) => {
                    let key = dialog.key;
                    self.mode = Mode::List;
                    return Some(Effect::Signal { key, signal });
                }
            },
        }
        None
    }

    fn press_in_list(&mut self, key: Key) -> Option<Effect> {
        let page = usize::from(self.layout().rows.max(1));
        match key {
            Key::Char('q') => return Some(Effect::Quit),
            Key::Char('?' | 'h') => self.mode = Mode::Help,
            Key::Char('k') => self.open_dialog(),
            Key::Char('/') => self.mode = Mode::Filter,
            Key::Escape => self.close(),
            Key::Enter | Key::Char('d') => self.toggle(Pane::Details),
            Key::Char('e') => self.toggle(Pane::Exits),
            Key::Up => self.select(self.selected.saturating_sub(1)),
            Key::Down => self.select(self.selected + 1),
            Key::PageUp => self.select(self.selected.saturating_sub(page)),
            Key::PageDown => self.select(self.selected + page),
            Key::Home => self.select(0),
            Key::End => self.select(usize::MAX),
            Key::Char('<') => self.details_first = self.details_first.saturating_sub(1),
            Key::Char('>') => self.details_first += 1,
            Key::Char(' ') => self.fold(None),
            Key::Right => self.fold(Some(false)),
            Key::Left => match self.selected_row() {
                Some(row) if row.has_children && row.folded == 0 => self.fold(Some(true)),
                Some(Row { parent: Some(parent), .. }) => self.select(*parent),
                _ => {}
            },
            Key::Char('t') => self.arrange(|it| it.is_flat = !it.is_flat),
            Key::Char('r') => self.arrange(|it| it.is_reversed = !it.is_reversed),
            Key::Char('c') => self.sort(SortOrder::Cpu),
            Key::Char('m') => self.sort(SortOrder::Memory),
            Key::Char('i') => self.sort(SortOrder::Io),
            Key::Char('p') => self.sort(SortOrder::Pid),
            Key::Char('a') => self.sort(SortOrder::Age),
            Key::Char('n') => self.sort(SortOrder::Name),
            _ => {}
        }
        None
    }

    fn press_in_filter(&mut self, key: Key) {
        match key {
            Key::Enter => self.mode = Mode::List,
            Key::Escape => {
                self.mode = Mode::List;
                self.arrange(|it| it.filter.clear());
            }
            Key::Backspace => self.arrange(|it| {
                it.filter.pop();
            }),
            // The texts that are searched are escaped too, so no unsafe character could match.
            Key::Char(character) if !printable::is_unsafe_to_print(character) => {
                self.arrange(|it| it.filter.extend(character.to_lowercase()));
            }
            _ => {}
        }
    }

    /// Closes the details, else removes the filter.
    fn close(&mut self) {
        match self.pane {
            Pane::Details => self.toggle(Pane::Details),
            _ => self.arrange(|it| it.filter.clear()),
        }
    }

    fn toggle(&mut self, pane: Pane) {
        self.pane = if self.pane == pane { Pane::None } else { pane };
        self.details_first = 0;
        self.scroll();
    }

    fn sort(&mut self, sort: SortOrder) {
        self.arrange(|it| (it.sort, it.is_reversed) = (sort, false));
    }

    fn arrange(&mut self, change: impl FnOnce(&mut Arrangement)) {
        change(&mut self.arrangement);
        self.is_stale = true;
    }

    /// Folds the selected row, unfolds it, or does the one that it is not.
    fn fold(&mut self, wanted: Option<bool>) {
        let Some(row) = self.selected_row().filter(|row| row.has_children) else { return };
        let id = row.id.clone();
        let is_folded = wanted.unwrap_or(row.folded == 0);
        self.arrange(|it| {
            if is_folded {
                it.folded.insert(id)
            } else {
                it.folded.remove(&id)
            };
        });
    }

    fn open_dialog(&mut self) {
        let Some(row) = self.selected_row() else { return };
        let RowId::Process(entity_id) = &row.id else {
            self.result = Some("select a process to send it a signal".to_owned());
            return;
        };
        let Some(key) = ProcessKey::of_entity_id(entity_id).filter(|key| key.start.is_some())
        else {
            let reason = "the start of this process is not known: a signal could reach another one";
            self.result = Some(reason.to_owned());
            return;
        };
        let group = self.group_of(self.selected).filter(|group| group.id != row.id);
        let container = group.map_or_else(String::new, |group| group.item.command.clone());
        let command = row.item.command.clone();
        self.mode = Mode::Kill(Dialog::new(entity_id.clone(), key, command, container));
    }

    /// Selects the row at an index, or the last one.
    fn select(&mut self, at: usize) {
        let at = at.min(self.rows.len().saturating_sub(1));
        let id = self.rows.get(at).map(|row| row.id.clone());
        if id != self.selected_id {
            self.details_first = 0;
        }
        (self.selected, self.selected_id) = (at, id);
        self.scroll();
    }

    /// Moves the rows so that the selected one is on the screen.
    fn scroll(&mut self) {
        let height = usize::from(self.layout().rows.max(1));
        let least = (self.selected + 1).saturating_sub(height);
        // No empty lines below the last row while there are rows above the first one.
        let most = self.selected.min(self.rows.len().saturating_sub(height)).max(least);
        self.first = self.first.clamp(least, most.max(least));
    }
}

#[cfg(test)]
mod tests;
