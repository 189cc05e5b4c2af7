//! Reads the scripts in arguments: `sh -c "…"`, `ssh host "…"`, `$(…)`.
//!
//! A script is split into words as the shell does it, and its commands are read as arguments are. A
//! password that one command writes and another reads is a secret too: `echo X | chpasswd`.

use std::ops::Range;

use super::{
    Search,
    command::{Command, SCRIPT_DEPTH_MAX},
    shell::{Lexer, Piece},
    text::Text,
    tools::Treatment,
    value::is_reference,
};

/// The words that an `echo` has written, which the next command of the pipeline reads.
#[derive(Debug, Default)]
struct EchoedWords {
    /// The captured range of each word, and the range of its part after a colon (`user:SECRET`) or
    /// of the whole word.
    words: Vec<(Range<usize>, Range<usize>)>,
    /// The index in `words` from which on they are those of the last command.
    begins: usize,
}

/// How many words of `echo` commands are kept until a group of commands (`{ … }`) ends.
const GROUP_WORDS_MAX: usize = 32;

impl Search {
    /// Reads a text that may be no script as the words of commands, to find options with secrets in
    /// it.
    pub(super) fn read_options_in(&mut self, text: Text<'_>, command: &Command) {
        let start = Command::of_text(command.script_depth + 1);
        let mut inner = start;
        let mut lexer = Lexer::new(text);
        while let Some(piece) = lexer.next() {
            let word = match &piece {
                Piece::Plain(range) => text.part(range.clone()),
                Piece::Quoted => lexer.word.text(),
                Piece::Pipe | Piece::End | Piece::Close => {
                    inner = start;
                    continue;
                }
                _ => continue,
            };
            self.read_word(&mut inner, word);
        }
    }

    /// Reads a script. `supplies` means that its output is a secret: `--password-command`.
    pub(super) fn read_script(&mut self, text: Text<'_>, depth: u8, supplies: bool) {
        // A single word has no options, and starting to read a script costs much for one word.
        let is_word =
            !text.bytes.iter().any(|byte| byte.is_ascii_whitespace() || b"$`<".contains(byte));
        if depth >= SCRIPT_DEPTH_MAX || is_word {
            return self.scan(text, is_word);
        }
        let depth = depth + 1;
        let mut command = Command::new(depth);
        let (mut before, mut written) = (EchoedWords::default(), EchoedWords::default());
        // The words that a group of commands has written: `{ echo X; } | …`.
        let (mut group, mut closed) = (EchoedWords::default(), false);
        let mut here = false;
        let mut file = false;
        let mut lexer = Lexer::new(text);
        loop {
            let piece = lexer.next();
            let word = match &piece {
                Some(Piece::Plain(range)) => text.part(range.clone()),
                Some(Piece::Quoted) => lexer.word.text(),
                Some(Piece::Redirection) => {
                    file = true;
                    continue;
                }
                Some(Piece::HereString) => {
                    here = true;
                    continue;
                }
                Some(Piece::HereDocument(range)) => {
                    let body = text.part(range.clone());
                    if command.reads_secret.is_some() && !is_reference(body.bytes) {
                        self.hide_all(&body);
                    } else {
                        self.scan(body, false);
                    }
                    command = Command::new(depth);
                    continue;
                }
                Some(Piece::Pipe | Piece::End | Piece::Close) | None => {
                    if let Some(treatment) = command.reads_secret {
                        self.hide_written(&before, treatment);
                    }
                    if supplies && piece != Some(Piece::Pipe) {
                        self.hide_written(&written, Treatment::Stdin);
                    }
                    let Some(piece) = piece else { return };
                    group.words.append(&mut written.words);
                    group.words.truncate(GROUP_WORDS_MAX);
                    if piece == Piece::Pipe {
                        let from = if closed { 0 } else { group.begins };
                        before.words = group.words.split_off(from);
                        group = EchoedWords::default();
                    } else {
                        before = EchoedWords::default();
                    }
                    closed = piece == Piece::Close;
                    group.begins = group.words.len();
                    command = Command::new(depth);
                    continue;
                }
            };
            // `--password "$(echo X)"`, `--auth-user-pass <(printf X)`: the value is what the inner
            // script writes.
            let supplies = command.expects_secret();
            if std::mem::take(&mut file) {
                self.scan(word, true);
            } else if std::mem::take(&mut here) {
                before.add(&word);
                // `cat <<< X | …`: what the command reads may also be what it writes.
                written.add(&word);
                self.scan(word, true);
            } else {
                if command.is_echo {
                    written.add(&word);
                }
                closed = word.bytes == b"}";
                self.read_word(&mut command, word);
            }
            for inside in &lexer.nested {
                self.read_script(text.part(inside.clone()), depth, supplies);
            }
        }
    }

    /// Hides the words that a command reads, by the form in which it reads a secret.
    fn hide_written(&mut self, written: &EchoedWords, treatment: Treatment) {
        for (whole, second) in &written.words {
            let range = if matches!(treatment, Treatment::Pair(_)) { second } else { whole };
            self.found.push(range.clone());
        }
    }
}

impl EchoedWords {
    /// Adds a word of an `echo`, unless it cannot be a secret.
    fn add(&mut self, word: &Text<'_>) {
        let bytes = word.bytes;
        if bytes.starts_with(b"-") && bytes.len() <= 3
            || bytes.contains(&b'%')
            || is_reference(bytes)
        {
            return;
        }
        // Only the last line may be the secret: `user\nSECRET\n`.
        let end = if bytes.ends_with(b"\\n") { bytes.len() - 2 } else { bytes.len() };
        let line = bytes[..end].windows(2).rposition(|pair| pair == b"\\n").map_or(0, |at| at + 2);
        let repeats = line > 0 && bytes.starts_with(&bytes[line..end]);
        let line = if repeats { 0 } else { line };
        let colon = bytes[line..end].iter().position(|byte| *byte == b':');
        let second = colon.map_or(line, |colon| line + colon + 1);
        self.words.push((word.captured_range(line..end), word.captured_range(second..end)));
    }
}
