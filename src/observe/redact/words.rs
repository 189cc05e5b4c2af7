//! Finds secrets that are values of options, in the same argument or in the next one.

use std::ops::Range;

use super::{names::is_secret, shapes::value};

/// What the previous arguments imply for the next one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Words {
    command: Command,
    next: Next,
}

/// The last command with special options for secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Command {
    #[default]
    Other,
    /// A command of MySQL or MariaDB: `-pSECRET`.
    Mysql,
    /// curl: `-u user:SECRET`.
    Curl,
    /// sshpass: `-p SECRET` and `-pSECRET`.
    Sshpass,
}

/// What the next word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Next {
    #[default]
    Nothing,
    /// The whole word is a secret.
    Secret,
    /// The word is `user:SECRET`.
    UserSecret,
    /// The word is a secret, or a scheme such as `Bearer` before the secret.
    Credential,
    /// The argument is a shell script with words of its own.
    Script,
}

impl Words {
    /// Adds the ranges of the secrets in an argument to `found`. Returns what the argument implies
    /// for the next one.
    pub(super) fn find(self, arg: &[u8], found: &mut Vec<Range<usize>>) -> Self {
        // The script is not a secret itself; only its words are searched below.
        let after = if self.next == Next::Script {
            Self { next: Next::Nothing, ..self }
        } else {
            self.word(arg, 0, found)
        };
        if !arg.iter().any(u8::is_ascii_whitespace) {
            return after;
        }
        // An argument with spaces may be a script, so its words are searched like arguments.
        let mut words = Self { command: after.command, next: Next::Nothing };
        let mut start = 0;
        while start < arg.len() {
            if arg[start].is_ascii_whitespace()
                || matches!(arg[start], b';' | b'|' | b'&' | b'(' | b')' | b'\'' | b'"')
            {
                start += 1;
                continue;
            }
            // `value` handles quotes, so a word after a quote is read from the quote on.
            let quoted = start > 0 && matches!(arg[start - 1], b'\'' | b'"');
            let word = if quoted { value(arg, start - 1) } else { value(arg, start) };
            // Two quotes enclose nothing: step over one byte, so that the loop ends.
            let word = if word.is_empty() { start..start + 1 } else { word };
            words = words.word(&arg[word.clone()], word.start, found);
            start = word.end;
        }
        // A command inside the text counts, but its pending option ends with the text.
        Self { command: words.command, ..after }
    }

    /// Finds the secret in one word, which begins `offset` bytes into its argument.
    fn word(self, word: &[u8], offset: usize, found: &mut Vec<Range<usize>>) -> Self {
        let mut secret = |start: usize| found.push(offset + start..offset + word.len());
        let command = command_of(word).unwrap_or(self.command);
        let next = |next| Self { command, next };
        match self.next {
            // `--password --verbose`: the option has no value, and the next word is another option.
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

/// Reports where the secret in an option begins, or returns what the option implies for the next
/// word.
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
        // This applies only to these commands: `-p` of `mkdir` or `ssh` has another meaning.
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

/// Whether a word is more likely another option than a secret.
fn is_switch(word: &[u8]) -> bool {
    word.starts_with(b"--") || (word.starts_with(b"-") && word.len() == 2)
}

fn command_of(word: &[u8]) -> Option<Command> {
    // Commands may be called by their path.
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
