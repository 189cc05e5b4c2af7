//! Options whose values are secrets: in this argument or the next one.

use std::ops::Range;

use super::{names::is_secret, shapes::value};

/// What the arguments so far say of the next one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Words {
    command: Command,
    next: Next,
}

/// A command with options of its own for secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Command {
    #[default]
    Other,
    /// `-pSECRET`.
    Mysql,
    /// `-u user:SECRET`.
    Curl,
    /// `-p SECRET` and `-pSECRET`.
    Sshpass,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Next {
    #[default]
    Nothing,
    /// A secret whole.
    Secret,
    /// `user:SECRET`.
    UserSecret,
    /// The first word, if it is none of a scheme, is a secret.
    Credential,
    /// A shell's script: many words.
    Script,
}

impl Words {
    /// Adds the range of what the rules of words find in an argument, and tells what it says of the
    /// next one.
    pub(super) fn find(self, arg: &[u8], found: &mut Vec<Range<usize>>) -> Self {
        let after = if self.next == Next::Script {
            Self { next: Next::Nothing, ..self }
        } else {
            self.word(arg, 0, found)
        };
        if !arg.iter().any(u8::is_ascii_whitespace) {
            return after;
        }
        // A text: its words may be a command's arguments.
        let mut words = Self { command: after.command, next: Next::Nothing };
        let mut start = 0;
        while start < arg.len() {
            if arg[start].is_ascii_whitespace()
                || matches!(arg[start], b';' | b'|' | b'&' | b'(' | b')' | b'\'' | b'"')
            {
                start += 1;
                continue;
            }
            // `value` knows quotes: a word that follows one begins inside of them.
            let quoted = start > 0 && matches!(arg[start - 1], b'\'' | b'"');
            let word = if quoted { value(arg, start - 1) } else { value(arg, start) };
            let word = if word.is_empty() { start..start + 1 } else { word };
            words = words.word(&arg[word.clone()], word.start, found);
            start = word.end;
        }
        Self { command: words.command, ..after }
    }

    /// One word, `offset` bytes into its argument.
    fn word(self, word: &[u8], offset: usize, found: &mut Vec<Range<usize>>) -> Self {
        let mut secret = |start: usize| found.push(offset + start..offset + word.len());
        let command = command_of(word).unwrap_or(self.command);
        let next = |next| Self { command, next };
        match self.next {
            Next::Secret if !is_switch(word) => {
                secret(0);
                return next(Next::Nothing);
            }
            Next::Credential => {
                let scheme = [&b"basic"[..], b"bearer", b"digest", b"token"]
                    .iter()
                    .any(|scheme| word.eq_ignore_ascii_case(scheme));
                secret(if scheme { word.len() } else { 0 });
                return next(if scheme { Next::Secret } else { Next::Nothing });
            }
            Next::UserSecret => {
                secret(
                    word.iter()
                        .position(|byte| *byte == b':')
                        .map_or(word.len(), |colon| colon + 1),
                );
                return next(Next::Nothing);
            }
            _ => {}
        }
        if word.starts_with(b"-") {
            return next(option(command, word, &mut secret));
        }
        if let Some(equals) = word.iter().position(|byte| *byte == b'=')
            && is_secret(&word[..equals])
        {
            secret(equals + 1);
        }
        if word.eq_ignore_ascii_case(b"authorization:") {
            return next(Next::Credential);
        }
        next(Next::Nothing)
    }
}

/// An option: tells its secret, or what it says of the next word.
fn option(command: Command, word: &[u8], secret: &mut impl FnMut(usize)) -> Next {
    if let Some(equals) = word.iter().position(|byte| *byte == b'=') {
        let (name, user) =
            (&word[..equals], matches!(&word[..equals], b"--user" | b"--proxy-user"));
        if is_secret(name) {
            secret(equals + 1);
        } else if command == Command::Curl && user {
            let colon = word.iter().position(|byte| *byte == b':');
            secret(colon.map_or(word.len(), |colon| colon + 1));
        }
        return Next::Nothing;
    }
    match (command, word) {
        (Command::Mysql | Command::Sshpass, [b'-', b'p', _, ..]) => {
            secret(2);
            Next::Nothing
        }
        (Command::Sshpass, b"-p") => Next::Secret,
        (Command::Curl, b"-u" | b"-U" | b"--user" | b"--proxy-user") => Next::UserSecret,
        (Command::Curl, [b'-', b'u' | b'U', rest @ ..]) => {
            secret(
                rest.iter().position(|byte| *byte == b':').map_or(word.len(), |colon| colon + 3),
            );
            Next::Nothing
        }
        (_, b"-c" | b"-lc" | b"-ec" | b"-xc" | b"-euc") => Next::Script,
        _ if is_secret(word) => Next::Secret,
        _ => Next::Nothing,
    }
}

/// Whether it is rather another option than a secret.
fn is_switch(word: &[u8]) -> bool {
    word.starts_with(b"--") || (word.starts_with(b"-") && word.len() == 2)
}

fn command_of(word: &[u8]) -> Option<Command> {
    let name = word.rsplit(|byte| *byte == b'/').next().unwrap_or(word);
    match name {
        b"mysql" | b"mysqldump" | b"mysqladmin" | b"mysqlimport" | b"mysqlcheck" | b"mysqlshow"
        | b"mysqlbinlog" | b"mysqlslap" | b"mysqlsh" | b"mariadb" | b"mariadb-dump"
        | b"mariadb-admin" | b"mariadb-import" | b"mariadb-check" => Some(Command::Mysql),
        b"curl" => Some(Command::Curl),
        b"sshpass" => Some(Command::Sshpass),
        _ => None,
    }
}
