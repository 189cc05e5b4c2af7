//! Follows the words of a command: the tool, its options, and which of its words are secrets.
//!
//! The words are arguments, or come from a script that an argument contains: see `script`.

use super::{
    Search,
    names::{Sense, sense},
    scan::is_name,
    text::Text,
    tools::{self, DISTANCE_MAX, Kind, Name, Rules},
    value::{self, is_option, is_random},
};

/// How deep scripts within scripts are read. Each level reads its text once more.
pub(super) const DEPTH_MAX: u8 = 3;

/// How many rules of the table can apply to one command: that of its program, and those of up to
/// three subcommands, each within the one before (`aws secretsmanager ...`).
const RULES_MAX: usize = 4;

/// A command, while its words are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Command {
    /// The name of the tool, and the rules about it. There are none for an unknown tool.
    name: Option<Name>,
    rules: [Option<Rules>; RULES_MAX],
    /// What kinds of rules these are.
    flags: u8,
    /// Whether a word can be the name of another tool.
    wraps: bool,
    /// How many words were no options, the tool's name not counted.
    place: u8,
    next: Next,
    /// Whether the last word was `set`, so that a name and its value follow.
    sets: bool,
    /// What the words at these distances are.
    coming: [Option<Kind>; DISTANCE_MAX as usize],
    /// Whether the command writes its words: `echo`, `printf`.
    pub(super) echo: bool,
    /// Whether the words are parts of a text that may be no script, and was searched as a whole.
    soft: bool,
    /// Whether the command reads a secret from stdin, and how it is written there.
    pub(super) reads: Option<Kind>,
    /// How many scripts the command is in.
    pub(super) depth: u8,
}

/// What the next word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Any,
    /// The value of an option with a name of this sense.
    Named(Sense),
    /// The value of an option in the table.
    Ruled(Kind),
    /// The value of an unknown short option.
    Short,
    /// The value of an unknown option, or another word.
    Unknown,
    /// The scheme or the credential of a header that is split into words.
    Credential,
}

impl Command {
    pub(super) fn new(depth: u8) -> Self {
        Self {
            name: None,
            rules: [None; RULES_MAX],
            flags: 0,
            wraps: true,
            place: 0,
            next: Next::Any,
            sets: false,
            coming: [None; DISTANCE_MAX as usize],
            echo: false,
            soft: false,
            reads: None,
            depth,
        }
    }

    /// The words of a text that may be no script, and was searched as a whole.
    pub(super) fn of_text(depth: u8) -> Self {
        Self { soft: true, ..Self::new(depth) }
    }

    fn find(&self, rule: impl Fn(Rules) -> Option<Kind>) -> Option<Kind> {
        // The last lines are about the subcommands and come first.
        self.rules.iter().rev().flatten().find_map(|rules| rule(*rules))
    }

    fn option(&self, name: &[u8]) -> Option<Kind> {
        if self.rules[0].is_none() || name.len() > tools::NAME_MAX {
            return None;
        }
        self.find(|rules| rules.option(name))
    }

    /// Whether the next word is a secret, or where one comes from.
    pub(super) fn expects_secret(&self) -> bool {
        matches!(
            self.next,
            Next::Named(Sense::Source | Sense::Secret | Sense::Pair)
                | Next::Ruled(Kind::Secret | Kind::Source | Kind::Pair(_))
        ) || self.coming[0].is_some()
    }

    /// Whether a word is a subcommand of the tool: `passwd` of `openssl` is no other tool.
    fn has_subcommand(&self, word: &[u8]) -> bool {
        self.flags & tools::SUBCOMMANDS != 0
            && word.len() <= tools::NAME_MAX
            && self.name.is_some_and(|name| name.rules_after(word).is_some())
    }

    fn add(&mut self, rules: Rules) {
        if let Some(free) = self.rules.iter_mut().find(|rules| rules.is_none()) {
            *free = Some(rules);
        }
        self.flags |= rules.flags();
        if rules.flags() & tools::READS != 0 && self.reads.is_none() {
            self.reads = rules.option(b"<");
        }
    }

    /// Takes a word for the name of a tool, if it is one. The value of an option is none.
    fn enter(&mut self, word: &[u8]) -> bool {
        // Commands may be called by their path.
        let start = word.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let name = &word[start..];
        if name.is_empty() || name.len() > tools::NAME_MAX {
            return false;
        }
        let name = Name::new(name);
        let Some(rules) = name.rules() else { return false };
        *self = Self { reads: self.reads, soft: self.soft, ..Self::new(self.depth) };
        self.name = Some(name);
        self.wraps = rules.flags() & tools::WRAPS != 0;
        self.add(rules);
        true
    }
}

impl Search {
    /// Reads one word of a command.
    pub(super) fn word(&mut self, command: &mut Command, text: Text<'_>) {
        let word = text.bytes;
        let coming = command.coming[0];
        match std::mem::replace(&mut command.next, Next::Any) {
            // `--password --verbose`: the option has no value, and the next word is an option.
            Next::Named(sense) if !is_option(word) => {
                return self.named(sense, text, command.depth);
            }
            Next::Ruled(kind) => return self.apply(command, kind, text),
            Next::Short if word.len() >= 12 && !word.starts_with(b"-") && is_random(word) => {
                return self.hide_all(&text);
            }
            Next::Short | Next::Unknown if !word.starts_with(b"-") && self.guess(text) => return,
            Next::Credential => {
                if word.len() <= 16 && word.iter().all(u8::is_ascii_alphabetic) {
                    command.next = Next::Named(Sense::Secret);
                    return;
                }
                return self.named(Sense::Secret, text, command.depth);
            }
            _ => {}
        }
        if word.starts_with(b"-") {
            return self.read_option(command, text);
        }
        if word.starts_with(b"/") && self.windows_option(command, text) {
            return;
        }
        command.coming.rotate_left(1);
        command.coming[DISTANCE_MAX as usize - 1] = None;
        self.positional(command, text, coming);
    }

    /// Reads a word that is no option.
    fn positional(&mut self, command: &mut Command, text: Text<'_>, coming: Option<Kind>) {
        let word = text.bytes;
        let is_assignment = is_assignment(word);
        // A word of one letter is neither a tool nor a secret.
        let is_letter = word.len() == 1 && word[0].is_ascii_alphanumeric();
        if command.wraps && !is_assignment && !is_letter && !command.has_subcommand(word) {
            let container = command.name.is_some() && command.place > 0;
            if command.enter(word) {
                // `docker exec mysql mysql -pX`: a container can have the name of a tool.
                command.wraps |= container;
                return;
            }
            command.echo |= command.place == 0 && matches!(word, b"echo" | b"printf");
        }
        if command.name.is_some() && command.flags & tools::WRAPS == 0 && !is_assignment {
            command.wraps = false;
        }
        command.place = command.place.saturating_add(1);
        let kind = coming.or_else(|| self.placed(command));
        self.follow(command, word);
        if let Some(kind) = kind
            && !(is_assignment && matches!(kind, Kind::Secret | Kind::Likely))
        {
            return self.apply(command, kind, text);
        }
        if !command.soft && word.eq_ignore_ascii_case(b"authorization:") {
            command.next = Next::Credential;
            return;
        }
        if command.flags & tools::SCRIPTS != 0 {
            return self.script(text, command.depth, false);
        }
        // `config set registry.token X`: a compound name before a value that looks like a secret.
        let sets = std::mem::replace(&mut command.sets, matches!(word, b"set" | b"config"));
        if !is_assignment
            && command.coming.iter().all(Option::is_none)
            && word.len() > 6
            && word
                .iter()
                .any(|byte| matches!(byte, b'.' | b'_' | b'-') || byte.is_ascii_uppercase())
            && matches!(sense(word), Sense::Secret)
        {
            command.next = Next::Named(if sets { Sense::Secret } else { Sense::Likely });
        }
        self.content(command, text);
    }

    /// The rule for a word at its place.
    fn placed(&self, command: &Command) -> Option<Kind> {
        if command.flags & tools::PLACES == 0 || command.place > 9 {
            return None;
        }
        command.find(|rules| rules.place(command.place))
    }

    /// Adds the rules that follow from a word.
    fn follow(&mut self, command: &mut Command, word: &[u8]) {
        let Some(name) = command.name else { return };
        if word.len() > tools::NAME_MAX {
            return;
        }
        if command.flags & tools::SUBCOMMANDS != 0
            && command.place <= 4
            && let Some(rules) = name.rules_after(word)
        {
            command.add(rules);
        }
        if command.flags & tools::AFTER == 0 {
            return;
        }
        // `http-basic.example.net` is a key that begins with the name in the table.
        let dot = word.iter().position(|byte| *byte == b'.').map(|dot| &word[..=dot]);
        for word in std::iter::once(word).chain(dot) {
            if command.find(|rules| rules.after(word, None)).is_none() {
                continue;
            }
            for distance in 1..=DISTANCE_MAX {
                if let Some(kind) = command.find(|rules| rules.after(word, Some(distance))) {
                    command.coming[usize::from(distance) - 1] = Some(kind);
                }
            }
        }
    }

    /// Reads an option, with its value if that is attached.
    fn read_option(&mut self, command: &mut Command, text: Text<'_>) {
        let word = text.bytes;
        if word == b"--" {
            command.wraps = true;
            return;
        }
        let equals = word.iter().position(|byte| *byte == b'=');
        let name = &word[..equals.unwrap_or(word.len())];
        if let Some(kind) = command.option(name) {
            match (kind, equals) {
                (Kind::Switch, None) | (Kind::Attached, None) => {}
                (Kind::Stdin, _) => command.reads = Some(kind),
                (_, Some(equals)) => self.apply(command, kind, text.from(equals + 1)),
                (_, None) => command.next = Next::Ruled(kind),
            }
            self.follow(command, name);
            return;
        }
        self.follow(command, name);
        if !word.starts_with(b"--") && self.bundle(command, text) {
            return;
        }
        let sense = option_sense(name);
        match equals {
            None if sense != Sense::Other => command.next = Next::Named(sense),
            None => {
                if let [b'-', b'p' | b'P' | b'w' | b'a' | b'k' | b't' | b's' | b'T' | b'K'] = word
                    && command.rules[0].is_none()
                {
                    command.next = Next::Short;
                } else if word.starts_with(b"--") || word.len() == 2 {
                    command.next = Next::Unknown;
                }
                // Values without a sign: `-HAuthorization: X`.
                self.content(command, text);
            }
            Some(equals) if sense == Sense::Other => {
                let value = text.from(equals + 1);
                // `scan` reads `-Dname=value` and `--//host/:_authToken=X` as assignments.
                if word.starts_with(b"--") && name.iter().all(|byte| is_name(*byte)) {
                    if !self.guess(value) {
                        self.content(command, value);
                    }
                } else {
                    self.content(command, text);
                }
            }
            Some(equals) => self.named(sense, text.from(equals + 1), command.depth),
        }
    }

    /// Reads an option of one letter with an attached value, or several such options: `-pX`,
    /// `-su user:X`. Returns whether there was a rule for one of them.
    fn bundle(&mut self, command: &mut Command, text: Text<'_>) -> bool {
        const LETTERS_MAX: usize = 8;
        let word = text.bytes;
        if word.len() < 3 || command.rules[0].is_none() {
            return false;
        }
        // `-hpX`
        if word.len() > 3 && command.option(&word[..3]) == Some(Kind::Attached) {
            self.apply(command, Kind::Attached, text.from(3));
            return true;
        }
        for at in 1..word.len().min(LETTERS_MAX) {
            match command.option(&[b'-', word[at]]) {
                Some(Kind::Switch) => self.follow(command, &[b'-', word[at]]),
                Some(Kind::Stdin) => command.reads = Some(Kind::Stdin),
                // Only the last letter can be followed by a script.
                Some(Kind::Script) if at + 1 < word.len() => {}
                // `-password` of a tool with `-p`.
                Some(Kind::Harmless) if at == 1 && option_sense(word) != Sense::Other => {
                    return false;
                }
                Some(kind) if at + 1 < word.len() => {
                    self.apply(command, kind, text.from(at + 1));
                    return true;
                }
                Some(Kind::Attached) => return true,
                Some(kind) => {
                    command.next = Next::Ruled(kind);
                    return true;
                }
                None => return false,
            }
        }
        true
    }

    /// `/p:X` of tools from Windows.
    fn windows_option(&mut self, command: &mut Command, text: Text<'_>) -> bool {
        let word = text.bytes;
        let colon = word.iter().position(|byte| *byte == b':');
        let name = &word[..colon.unwrap_or(word.len())];
        let Some(kind) = command.option(name) else {
            let sense = if colon.is_some() { option_sense(&name[1..]) } else { Sense::Other };
            return sense == Sense::Secret && self.judge(sense, text.from(name.len() + 1));
        };
        match (kind, colon) {
            (Kind::Stdin, _) => command.reads = Some(kind),
            (_, Some(colon)) => self.apply(command, kind, text.from(colon + 1)),
            (_, None) => command.next = Next::Ruled(kind),
        }
        true
    }

    /// Treats a value as a rule of the table says.
    fn apply(&mut self, command: &mut Command, kind: Kind, text: Text<'_>) {
        let bytes = text.bytes;
        let after = |sign: u8| bytes.iter().position(|byte| *byte == sign);
        let hidden = match kind {
            Kind::Secret | Kind::Attached => self.judge(Sense::Secret, text),
            Kind::Likely => self.judge(Sense::Likely, text),
            // A certificate has its password after the last colon of a path.
            Kind::Pair(sign) => match after(sign) {
                Some(at) => self.pair(sign, text, at),
                None => sign == b':' && self.judge(Sense::Likely, text),
            },
            Kind::Assignment => {
                after(b'=').is_some_and(|at| self.judge(Sense::Secret, text.from(at + 1)))
            }
            Kind::Cookies if bytes.contains(&b'=') => {
                self.cookies(text);
                true
            }
            Kind::Source => match bytes {
                [b'p', b'a', b's', b's', b':', ..] => self.judge(Sense::Secret, text.from(5)),
                _ if bytes.contains(&b':') || bytes == b"stdin" => false,
                _ => self.judge(Sense::Secret, text),
            },
            Kind::Script => {
                self.script(text, command.depth, false);
                // `sh -c 'exec "$0" "$@"' mysql -pX`: the other words are often a command.
                command.wraps = true;
                command.place = 0;
                true
            }
            Kind::Cookies | Kind::Harmless | Kind::Stdin | Kind::Switch => false,
        };
        if !hidden {
            self.content(command, text);
        }
    }

    /// Hides the second part of `user:SECRET` and the like.
    fn pair(&mut self, sign: u8, text: Text<'_>, at: usize) -> bool {
        if at == 0 && sign == b'/' {
            return false;
        }
        let secret = text.from(at + 1);
        let end = match sign {
            // `scott/X@db`: the last `@`, since a password can contain one.
            b'/' => secret.bytes.iter().rposition(|byte| *byte == b'@'),
            b'%' if text.bytes[..at].contains(&b'=') => {
                secret.bytes.iter().position(|byte| *byte == b',')
            }
            _ => None,
        };
        let secret = secret.part(0..end.unwrap_or(secret.bytes.len()));
        // A token in place of the user, with an empty password: `-u sk_live_X:`.
        if secret.bytes.is_empty() {
            return self.judge(Sense::Likely, text.part(0..at));
        }
        !value::is_reference(secret.bytes) && {
            self.hide_all(&secret);
            true
        }
    }

    /// Treats the value of a name.
    fn named(&mut self, sense: Sense, text: Text<'_>, depth: u8) {
        let is_source = sense == Sense::Source;
        if is_source && (text.bytes.contains(&b' ') || text.bytes.starts_with(b"<(")) {
            return self.script(text, depth, true);
        }
        if sense == Sense::Cookie {
            return self.cookies(text);
        }
        if !self.judge(sense, text) && !self.guess(text) {
            self.scan(text, true);
        }
    }

    /// Searches a word that is no secret as a whole. A word with spaces may be a script, or have
    /// words that are read like arguments.
    fn content(&mut self, command: &Command, text: Text<'_>) {
        if command.soft {
            return;
        }
        if self.after_key_id && is_aws_secret(text.bytes) {
            return self.hide_all(&text);
        }
        self.scan(text, true);
        if text.bytes.iter().any(u8::is_ascii_whitespace) && command.depth < DEPTH_MAX {
            self.words_of(text, command);
        }
    }
}

/// What the value of an option with this name is.
fn option_sense(name: &[u8]) -> Sense {
    let is_word = name.len() > 2 && name.iter().all(|byte| is_name(*byte));
    match name.strip_prefix(b"--").unwrap_or(name) {
        // More often a working directory.
        b"pwd" => Sense::Likely,
        _ if is_word => sense(name),
        _ => Sense::Other,
    }
}

/// Whether a word after an AWS key id has the form of its secret key.
fn is_aws_secret(word: &[u8]) -> bool {
    word.len() == 40
        && word.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'+'))
        && word.iter().any(u8::is_ascii_digit)
        && word.iter().any(u8::is_ascii_uppercase)
}

/// Whether a word is `NAME=value`.
fn is_assignment(word: &[u8]) -> bool {
    let Some(equals) = word.iter().position(|byte| *byte == b'=') else { return false };
    let is_name = equals > 0 && word[..equals].iter().all(|byte| is_name(*byte));
    // The padding of base64 is none.
    let is_padding = word[equals..].iter().all(|byte| *byte == b'=');
    is_name && !is_padding && word[0] != b'-'
}
