//! Reads the words of a command: finds the tool and its options, and hides the words that are
//! secrets.

use super::{
    super::{
        Search,
        names::{ValueKind, value_kind_of},
        scan::is_name_byte,
        text::Text,
        tools::{self, DISTANCE_MAX, Treatment},
        value::{self, is_option, is_random},
    },
    Command, NextWord, SCRIPT_DEPTH_MAX,
};

impl Search {
    /// Reads the next word of a command: an option, the value of an option, or another word.
    pub(in super::super) fn read_word(&mut self, command: &mut Command, text: Text<'_>) {
        let word = text.bytes;
        let coming = command.coming_words[0];
        match std::mem::replace(&mut command.next_word, NextWord::Any) {
            // `--password --verbose`: the option has no value, and the next word is an option.
            NextWord::Named(value_kind) if !is_option(word) => {
                return self.judge_named_value(value_kind, text, command.script_depth);
            }
            NextWord::Ruled(treatment) => return self.apply_treatment(command, treatment, text),
            NextWord::Short if word.len() >= 12 && !word.starts_with(b"-") && is_random(word) => {
                return self.hide_all(&text);
            }
            NextWord::Short | NextWord::Unknown
                if !word.starts_with(b"-") && self.hide_if_strict_secret(text) =>
            {
                return;
            }
            NextWord::Credential => {
                if word.len() <= 16 && word.iter().all(u8::is_ascii_alphabetic) {
                    command.next_word = NextWord::Named(ValueKind::Secret);
                    return;
                }
                return self.judge_named_value(ValueKind::Secret, text, command.script_depth);
            }
            _ => {}
        }
        if word.starts_with(b"-") {
            return self.read_option(command, text);
        }
        if word.starts_with(b"/") && self.read_windows_option(command, text) {
            return;
        }
        command.coming_words.rotate_left(1);
        command.coming_words[DISTANCE_MAX as usize - 1] = None;
        self.read_positional(command, text, coming);
    }

    /// Reads a word that is no option. `coming` is its treatment by a rule about the words before
    /// it.
    fn read_positional(
        &mut self,
        command: &mut Command,
        text: Text<'_>,
        coming: Option<Treatment>,
    ) {
        let word = text.bytes;
        let is_assignment = is_assignment(word);
        // A word of one letter is neither a tool nor a secret.
        let is_letter = word.len() == 1 && word[0].is_ascii_alphanumeric();
        if command.may_run_tool && !is_assignment && !is_letter && !command.has_subcommand(word) {
            let container = command.name.is_some() && command.position > 0;
            if command.enter_tool(word) {
                // `docker exec mysql mysql -pX`: a container can have the name of a tool.
                command.may_run_tool |= container;
                return;
            }
            command.is_echo |= command.position == 0 && matches!(word, b"echo" | b"printf");
        }
        if command.name.is_some() && command.rule_flags & tools::RUNS_TOOL == 0 && !is_assignment {
            command.may_run_tool = false;
        }
        command.position = command.position.saturating_add(1);
        let treatment = coming.or_else(|| self.rule_at_position(command));
        self.add_rules_after(command, word);
        if let Some(treatment) = treatment
            && !(is_assignment && matches!(treatment, Treatment::Secret | Treatment::Likely))
        {
            return self.apply_treatment(command, treatment, text);
        }
        if !command.already_scanned && word.eq_ignore_ascii_case(b"authorization:") {
            command.next_word = NextWord::Credential;
            return;
        }
        if command.rule_flags & tools::WORDS_ARE_SCRIPTS != 0 {
            return self.read_script(text, command.script_depth, false);
        }
        // `config set registry.token X`: a compound name before a value that looks like a secret.
        let after_set =
            std::mem::replace(&mut command.after_set, matches!(word, b"set" | b"config"));
        if !is_assignment
            && command.coming_words.iter().all(Option::is_none)
            && word.len() > 6
            && word
                .iter()
                .any(|byte| matches!(byte, b'.' | b'_' | b'-') || byte.is_ascii_uppercase())
            && matches!(value_kind_of(word), ValueKind::Secret)
        {
            command.next_word =
                NextWord::Named(if after_set { ValueKind::Secret } else { ValueKind::Likely });
        }
        self.search_word(command, text);
    }

    /// The rule for the word at the current position among those that are no options.
    fn rule_at_position(&self, command: &Command) -> Option<Treatment> {
        if command.rule_flags & tools::HAS_POSITION_RULES == 0 || command.position > 9 {
            return None;
        }
        command.find_rule(|rules| rules.rule_at_position(command.position))
    }

    /// Adds the rules that apply to the words after `word`: those of a subcommand, and those about
    /// distances.
    fn add_rules_after(&mut self, command: &mut Command, word: &[u8]) {
        let Some(name) = command.name else { return };
        if word.len() > tools::NAME_MAX {
            return;
        }
        if command.rule_flags & tools::HAS_SUBCOMMAND_RULES != 0
            && command.position <= 4
            && let Some(rules) = name.rules_after(word)
        {
            command.add_rules(rules);
        }
        if command.rule_flags & tools::HAS_RULES_AFTER_WORDS == 0 {
            return;
        }
        // `http-basic.example.net` is a key that begins with the name in the table.
        let dot = word.iter().position(|byte| *byte == b'.').map(|dot| &word[..=dot]);
        for word in std::iter::once(word).chain(dot) {
            if command.find_rule(|rules| rules.rule_after_word(word, None)).is_none() {
                continue;
            }
            for distance in 1..=DISTANCE_MAX {
                if let Some(treatment) =
                    command.find_rule(|rules| rules.rule_after_word(word, Some(distance)))
                {
                    command.coming_words[usize::from(distance) - 1] = Some(treatment);
                }
            }
        }
    }

    /// Reads an option, and its value if that is in the same word.
    fn read_option(&mut self, command: &mut Command, text: Text<'_>) {
        let word = text.bytes;
        if word == b"--" {
            command.may_run_tool = true;
            return;
        }
        let equals = word.iter().position(|byte| *byte == b'=');
        let name = &word[..equals.unwrap_or(word.len())];
        if let Some(treatment) = command.option_rule(name) {
            match (treatment, equals) {
                (Treatment::Switch, None) | (Treatment::Attached, None) => {}
                (Treatment::Stdin, _) => command.reads_secret = Some(treatment),
                (_, Some(equals)) => {
                    self.apply_treatment(command, treatment, text.from(equals + 1))
                }
                (_, None) => command.next_word = NextWord::Ruled(treatment),
            }
            self.add_rules_after(command, name);
            return;
        }
        self.add_rules_after(command, name);
        if !word.starts_with(b"--") && self.read_short_options(command, text) {
            return;
        }
        let value_kind = option_value_kind(name);
        match equals {
            None if value_kind != ValueKind::Other => {
                command.next_word = NextWord::Named(value_kind)
            }
            None => {
                if let [b'-', b'p' | b'P' | b'w' | b'a' | b'k' | b't' | b's' | b'T' | b'K'] = word
                    && command.rules[0].is_none()
                {
                    command.next_word = NextWord::Short;
                } else if word.starts_with(b"--") || word.len() == 2 {
                    command.next_word = NextWord::Unknown;
                }
                // The value may be attached without `=`: `-HAuthorization: X`.
                self.search_word(command, text);
            }
            Some(equals) if value_kind == ValueKind::Other => {
                let value = text.from(equals + 1);
                // `scan` reads `-Dname=value` and `--//host/:_authToken=X` as assignments.
                if word.starts_with(b"--") && name.iter().all(|byte| is_name_byte(*byte)) {
                    if !self.hide_if_strict_secret(value) {
                        self.search_word(command, value);
                    }
                } else {
                    self.search_word(command, text);
                }
            }
            Some(equals) => {
                self.judge_named_value(value_kind, text.from(equals + 1), command.script_depth)
            }
        }
    }

    /// Reads a word with one or several short options, the last of which may have an attached
    /// value: `-pX`, `-su user:X`. Returns `false` if the word must be read in another
    /// way, because a letter has no rule.
    fn read_short_options(&mut self, command: &mut Command, text: Text<'_>) -> bool {
        const SHORT_OPTIONS_MAX: usize = 8;
        let word = text.bytes;
        if word.len() < 3 || command.rules[0].is_none() {
            return false;
        }
        // `-hpX`
        if word.len() > 3 && command.option_rule(&word[..3]) == Some(Treatment::Attached) {
            self.apply_treatment(command, Treatment::Attached, text.from(3));
            return true;
        }
        for at in 1..word.len().min(SHORT_OPTIONS_MAX) {
            match command.option_rule(&[b'-', word[at]]) {
                Some(Treatment::Switch) => self.add_rules_after(command, &[b'-', word[at]]),
                Some(Treatment::Stdin) => command.reads_secret = Some(Treatment::Stdin),
                // Only the last letter can be followed by a script.
                Some(Treatment::Script) if at + 1 < word.len() => {}
                // `-password` of a tool with `-p`.
                Some(Treatment::Harmless)
                    if at == 1 && option_value_kind(word) != ValueKind::Other =>
                {
                    return false;
                }
                Some(treatment) if at + 1 < word.len() => {
                    self.apply_treatment(command, treatment, text.from(at + 1));
                    return true;
                }
                Some(Treatment::Attached) => return true,
                Some(treatment) => {
                    command.next_word = NextWord::Ruled(treatment);
                    return true;
                }
                None => return false,
            }
        }
        true
    }

    /// Reads an option in the form of Windows, `/p:X`. Returns `false` if the word is no such
    /// option.
    fn read_windows_option(&mut self, command: &mut Command, text: Text<'_>) -> bool {
        let word = text.bytes;
        let colon = word.iter().position(|byte| *byte == b':');
        let name = &word[..colon.unwrap_or(word.len())];
        let Some(treatment) = command.option_rule(name) else {
            let value_kind =
                if colon.is_some() { option_value_kind(&name[1..]) } else { ValueKind::Other };
            return value_kind == ValueKind::Secret
                && self.hide_if_secret(value_kind, text.from(name.len() + 1));
        };
        match (treatment, colon) {
            (Treatment::Stdin, _) => command.reads_secret = Some(treatment),
            (_, Some(colon)) => self.apply_treatment(command, treatment, text.from(colon + 1)),
            (_, None) => command.next_word = NextWord::Ruled(treatment),
        }
        true
    }

    /// Hides a value, or the part of it that is a secret, as a rule of the table says.
    fn apply_treatment(&mut self, command: &mut Command, treatment: Treatment, text: Text<'_>) {
        let bytes = text.bytes;
        let after = |sign: u8| bytes.iter().position(|byte| *byte == sign);
        let hidden = match treatment {
            Treatment::Secret | Treatment::Attached => self.hide_if_secret(ValueKind::Secret, text),
            Treatment::Likely => self.hide_if_secret(ValueKind::Likely, text),
            // A certificate has its password after the last colon of a path.
            Treatment::Pair(sign) => match after(sign) {
                Some(at) => self.hide_pair(sign, text, at),
                None => sign == b':' && self.hide_if_secret(ValueKind::Likely, text),
            },
            Treatment::Assignment => after(b'=')
                .is_some_and(|at| self.hide_if_secret(ValueKind::Secret, text.from(at + 1))),
            Treatment::Cookies if bytes.contains(&b'=') => {
                self.hide_cookies(text);
                true
            }
            Treatment::Source => match bytes {
                [b'p', b'a', b's', b's', b':', ..] => {
                    self.hide_if_secret(ValueKind::Secret, text.from(5))
                }
                _ if bytes.contains(&b':') || bytes == b"stdin" => false,
                _ => self.hide_if_secret(ValueKind::Secret, text),
            },
            Treatment::Script => {
                self.read_script(text, command.script_depth, false);
                // `sh -c 'exec "$0" "$@"' mysql -pX`: the other words are often a command.
                command.may_run_tool = true;
                command.position = 0;
                true
            }
            Treatment::Cookies | Treatment::Harmless | Treatment::Stdin | Treatment::Switch => {
                false
            }
        };
        if !hidden {
            self.search_word(command, text);
        }
    }

    /// Hides the second part of `user:SECRET`, with the separator `sign` at `at`. Returns whether
    /// something was hidden.
    fn hide_pair(&mut self, sign: u8, text: Text<'_>, at: usize) -> bool {
        // `/ as sysdba`, `@/path/of/a/script.sql`
        if sign == b'/' && matches!(text.bytes[..at], [] | [b'@', ..]) {
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
        // A token instead of the user, with an empty password: `-u sk_live_X:`.
        if secret.bytes.is_empty() {
            return self.hide_if_secret(ValueKind::Likely, text.part(0..at));
        }
        !value::is_reference(secret.bytes) && {
            self.hide_all(&secret);
            true
        }
    }

    /// Hides the value of a name, or the part of it that is a secret, by the kind of value that the
    /// name has.
    fn judge_named_value(&mut self, value_kind: ValueKind, text: Text<'_>, depth: u8) {
        let is_source = value_kind == ValueKind::Source;
        if is_source && (text.bytes.contains(&b' ') || text.bytes.starts_with(b"<(")) {
            return self.read_script(text, depth, true);
        }
        if value_kind == ValueKind::Cookie {
            return self.hide_cookies(text);
        }
        if !self.hide_if_secret(value_kind, text) && !self.hide_if_strict_secret(text) {
            self.scan(text, true);
        }
    }

    /// Searches for secrets inside a word that is no secret as a whole. A word with spaces may be a
    /// script, or contain words that are read like arguments.
    fn search_word(&mut self, command: &Command, text: Text<'_>) {
        if command.already_scanned {
            return;
        }
        if self.after_key_id && is_aws_secret(text.bytes) {
            return self.hide_all(&text);
        }
        self.scan(text, true);
        if text.bytes.iter().any(u8::is_ascii_whitespace) && command.script_depth < SCRIPT_DEPTH_MAX
        {
            self.read_options_in(text, command);
        }
    }
}

/// The kind of value that an option has, by its name.
fn option_value_kind(name: &[u8]) -> ValueKind {
    let is_word = name.len() > 2 && name.iter().all(|byte| is_name_byte(*byte));
    match name.strip_prefix(b"--").unwrap_or(name) {
        // `--pwd` is a working directory more often than a password.
        b"pwd" => ValueKind::Likely,
        _ if is_word => value_kind_of(name),
        _ => ValueKind::Other,
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
    let is_name = equals > 0 && word[..equals].iter().all(|byte| is_name_byte(*byte));
    // A word of base64 with padding (`abc=`) is no assignment.
    let is_padding = word[equals..].iter().all(|byte| *byte == b'=');
    is_name && !is_padding && word[0] != b'-'
}
