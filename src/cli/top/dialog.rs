//! The dialog that sends a signal: it names the process, asks for the signal, and then asks again.

use super::keyboard::Key;
use crate::{model::ProcessKey, registry::entry::signal_number};

/// The signals that the arrow keys choose from. Any other can be typed.
const SIGNALS: [&str; 9] = ["TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2", "STOP", "CONT"];

/// The longest name of a signal that can be typed: `SIGVTALRM`.
const NAME_MAX: usize = 9;

/// The dialog for one process. It keeps to this process if rows move, and if the pid is reused.
#[derive(Debug)]
pub(super) struct Dialog {
    pub(super) entity_id: String,
    pub(super) key: ProcessKey,
    /// The process and its container. Safe to print.
    pub(super) command: String,
    pub(super) container: String,
    /// The name or the number of the signal, as it is chosen or typed.
    pub(super) signal: String,
    pub(super) step: Step,
    is_typed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Choose,
    /// There is no such signal.
    Refused,
    /// The signal with this number is to be confirmed.
    Confirm(i32),
    /// The process has ended; there is nothing to send a signal to.
    Ended,
}

/// What a key has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Open,
    Closed,
    /// The signal with this number was confirmed.
    Send(i32),
}

impl Dialog {
    pub(super) fn new(
        entity_id: String,
        key: ProcessKey,
        command: String,
        container: String,
    ) -> Self {
        let signal = SIGNALS[0].to_owned();
        Self { entity_id, key, command, container, signal, step: Step::Choose, is_typed: false }
    }

    /// Notes that the process has ended.
    pub(super) fn end(&mut self) {
        self.step = Step::Ended;
    }

    pub(super) fn press(&mut self, key: Key) -> Outcome {
        match (self.step, key) {
            (_, Key::Escape) | (Step::Ended, _) => return Outcome::Closed,
            (Step::Confirm(number), Key::Char('y' | 'Y')) => return Outcome::Send(number),
            // Only `y` confirms: Enter may have been pressed once too often.
            (Step::Confirm(_), Key::Char('n' | 'N') | Key::Backspace) => self.step = Step::Choose,
            (Step::Confirm(_), _) => {}
            (Step::Choose | Step::Refused, key) => self.choose(key),
        }
        Outcome::Open
    }

    fn choose(&mut self, key: Key) {
        let at = SIGNALS.iter().position(|name| *name == self.signal);
        self.step = Step::Choose;
        match key {
            Key::Enter => {
                self.step = signal_number(&self.signal).map_or(Step::Refused, Step::Confirm);
            }
            Key::Right | Key::Down => self.select(at.map_or(0, |at| at + 1)),
            Key::Left | Key::Up => self.select(at.map_or(0, |at| at + SIGNALS.len() - 1)),
            Key::Backspace => {
                self.signal.pop();
                self.is_typed = true;
            }
            Key::Char(character) if character.is_ascii_alphanumeric() => {
                if !std::mem::replace(&mut self.is_typed, true) {
                    self.signal.clear();
                }
                if self.signal.len() < NAME_MAX {
                    self.signal.push(character.to_ascii_uppercase());
                }
            }
            _ => {}
        }
    }

    fn select(&mut self, at: usize) {
        self.signal = SIGNALS[at % SIGNALS.len()].to_owned();
        self.is_typed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialog() -> Dialog {
        let key = ProcessKey::new(7, 1);
        Dialog::new("e".into(), key, "sleep 9".into(), "web".into())
    }

    fn press(dialog: &mut Dialog, keys: &[Key]) -> Outcome {
        keys.iter().map(|key| dialog.press(*key)).last().unwrap()
    }

    /// Check that nothing but `y`, after a signal, sends.
    #[test]
    fn a_signal_is_sent_only_after_a_confirmation() {
        let mut one = dialog();
        assert_eq!(one.press(Key::Enter), Outcome::Open);
        assert_eq!(one.step, Step::Confirm(15));
        assert_eq!(press(&mut one, &[Key::Enter, Key::Char('x'), Key::Right]), Outcome::Open);
        assert_eq!(one.press(Key::Char('n')), Outcome::Open);
        assert_eq!(one.step, Step::Choose);
        assert_eq!(press(&mut one, &[Key::Right, Key::Enter, Key::Char('y')]), Outcome::Send(9));
        assert_eq!(press(&mut dialog(), &[Key::Enter, Key::Escape]), Outcome::Closed);
        // `y` is a letter of a name until a signal is chosen.
        assert_eq!(press(&mut dialog(), &[Key::Char('y')]), Outcome::Open);
    }

    /// Check the choice by arrows, by name and by number.
    #[test]
    fn a_signal_is_chosen_or_typed() {
        let mut one = dialog();
        press(&mut one, &[Key::Left]);
        assert_eq!(one.signal, "CONT");
        press(&mut one, &"winch".chars().map(Key::Char).collect::<Vec<_>>());
        assert_eq!(one.signal, "WINCH");
        press(&mut one, &[Key::Enter]);
        assert_eq!(one.step, Step::Confirm(28));
        let mut one = dialog();
        press(&mut one, &[Key::Char('9'), Key::Enter]);
        assert_eq!(one.step, Step::Confirm(9));
        let mut one = dialog();
        press(&mut one, &[Key::Char('9'), Key::Char('9'), Key::Enter]);
        assert_eq!(one.step, Step::Refused);
        press(&mut one, &[Key::Backspace]);
        assert_eq!((one.step, one.signal.as_str()), (Step::Choose, "9"));
    }

    /// Check that a dialog for a process that has ended sends nothing.
    #[test]
    fn an_ended_process_gets_no_signal() {
        let mut one = dialog();
        one.press(Key::Enter);
        one.end();
        assert_eq!(one.press(Key::Char('y')), Outcome::Closed);
    }
}
