//! The table of rules about the options and words of known tools, and the search for a rule in it.
//!
//! `services.txt` and `system.txt` are the table; the comment in the first one explains its signs.
//! The compiler reads it: the program contains only arrays of numbers, an index by hash. They have
//! no pointers, so they are never written to when the program is loaded, and all shims share their
//! pages.

/// How a rule treats the value of an option, or a word that is no option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It is a secret.
    Secret,
    /// It is a secret if it looks like one.
    Likely,
    /// A secret only if it is attached: `-pX`.
    Attached,
    /// It is no secret, whatever the name of the option is.
    Harmless,
    /// `user:SECRET`, with this separator.
    Pair(u8),
    /// `name=SECRET`.
    Assignment,
    /// `name=SECRET; name=SECRET`.
    Cookies,
    /// `pass:SECRET`, or where the secret is read from.
    Source,
    /// It is a script.
    Script,
    /// The option has no value, but the command reads a secret from stdin.
    Stdin,
    /// The option has no value.
    Switch,
}

/// The rules of a tool or of a subcommand: the number of its line in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ToolRules(u16);

/// The hash of a tool's name, to which the names of its subcommands can be added.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToolName(u64);

impl ToolName {
    pub(super) fn new(tool: &[u8]) -> Self {
        Self(hash(HASH_SEED, tool))
    }

    /// The rules of the tool with this name; `None` for a tool that is not in the table.
    pub(super) fn rules(self) -> Option<ToolRules> {
        find_value(self.0).map(ToolRules)
    }

    /// The rules of the subcommand `word` of this tool; `None` if the table has none.
    pub(super) fn rules_after(self, word: &[u8]) -> Option<ToolRules> {
        Self(hash(hash(self.0, b" "), word)).rules()
    }
}

impl ToolRules {
    /// The rule for the value of an option.
    pub(super) fn option_rule(self, name: &[u8]) -> Option<Treatment> {
        find_value(hash(self.seed_of_line(), name))
            .and_then(|value| treatment_of_sign((value & 0xff).to_le_bytes()[0]))
    }

    /// The rule for the word that follows `word` at this distance. Without a distance: some rule if
    /// there is one for any distance.
    pub(super) fn rule_after_word(self, word: &[u8], distance: Option<u8>) -> Option<Treatment> {
        let hash_of_any = hash(hash(self.seed_of_line(), word), b">");
        let hash = distance.map_or(hash_of_any, |distance| hash(hash_of_any, &[b'0' + distance]));
        find_value(hash).and_then(|value| treatment_of_sign((value & 0xff).to_le_bytes()[0]))
    }

    /// The rule for the word at this position (from 1) among those that are no options.
    pub(super) fn rule_at_position(self, place: u8) -> Option<Treatment> {
        self.option_rule(&[b'@', b'0' + place])
    }

    /// Which kinds of rules the line has, as bits ([`RUNS_TOOL`] and so on). Most tools have only
    /// some.
    pub(super) fn rule_flags(self) -> u8 {
        TABLE.flags[usize::from(self.0)]
    }

    fn seed_of_line(self) -> u64 {
        seed_of_line(self.0)
    }
}

// The kinds of rules that a line can have, as bits.

/// The tool runs another program, which one of its words names.
pub(super) const RUNS_TOOL: u8 = 1;
/// All words of the tool are scripts.
pub(super) const WORDS_ARE_SCRIPTS: u8 = 2;
/// There are rules for the words that follow a certain word.
pub(super) const HAS_RULES_AFTER_WORDS: u8 = 4;
/// There are rules for the words at certain positions.
pub(super) const HAS_POSITION_RULES: u8 = 8;
/// A subcommand of the tool has a line of its own.
pub(super) const HAS_SUBCOMMAND_RULES: u8 = 16;
/// The tool reads secrets from stdin.
pub(super) const READS_SECRET: u8 = 32;

/// The greatest distance from a word to the word that a rule is about.
pub(super) const DISTANCE_MAX: u8 = 4;

/// The most bytes of the name of a tool or an option in the table. Longer words are not looked up.
pub(super) const NAME_MAX: usize = 40;

/// The treatment that a sign of the table stands for.
fn treatment_of_sign(sign: u8) -> Option<Treatment> {
    Some(match sign {
        b' ' => Treatment::Secret,
        b'?' => Treatment::Likely,
        b'+' => Treatment::Attached,
        b'!' => Treatment::Harmless,
        b':' | b'%' | b',' | b'/' | b'>' => Treatment::Pair(sign),
        b'=' => Treatment::Assignment,
        b';' => Treatment::Cookies,
        b'~' => Treatment::Source,
        b'$' => Treatment::Script,
        b'<' => Treatment::Stdin,
        b'0' => Treatment::Switch,
        _ => return None,
    })
}

static TABLE: Table =
    Table::parse(concat!(include_str!("services.txt"), include_str!("system.txt")).as_bytes());

/// A hash table with open addressing, from 64-bit hashes to a line or a sign. Only the upper halves
/// of the hashes are stored, so a word of an argument can be taken for another word of the table.
/// That is about as likely as a damaged bit.
struct Table {
    checks: [u32; TABLE_SLOTS],
    values: [u16; TABLE_SLOTS],
    /// The kinds of rules of each line.
    flags: [u8; LINES_MAX],
}

/// The capacity for lines of the table, more than it has.
const LINES_MAX: usize = 512;

/// The number of slots of the hash table: a power of two.
const TABLE_SLOTS: usize = 8192;
const HASH_SEED: u64 = 0xcbf2_9ce4_8422_2325;

const fn seed_of_line(line: u16) -> u64 {
    (HASH_SEED ^ line as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// FNV-1a: short words, and it must run in constants.
const fn hash(seed: u64, bytes: &[u8]) -> u64 {
    hash_range(seed, bytes, 0, bytes.len())
}

const fn hash_range(seed: u64, bytes: &[u8], from: usize, to: usize) -> u64 {
    let (mut hash, mut at) = (seed, from);
    while at < to {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}

/// The slot at which the search for a hash begins, and the number that is compared with the slots;
/// never 0.
#[expect(
    clippy::cast_possible_truncation,
    reason = "only the lower bits count for the slot, and the upper half has 32 bits"
)]
const fn slot_of_hash(hash: u64) -> (usize, u32) {
    let mixed = hash ^ hash >> 29;
    ((mixed as usize) & (TABLE_SLOTS - 1), (hash >> 32) as u32 | 1)
}

fn find_value(hash: u64) -> Option<u16> {
    let (mut slot, check) = slot_of_hash(hash);
    loop {
        match TABLE.checks[slot] {
            0 => return None,
            found if found == check => return Some(TABLE.values[slot]),
            _ => slot = (slot + 1) & (TABLE_SLOTS - 1),
        }
    }
}

impl Table {
    const fn insert(&mut self, hash: u64, value: u16) {
        let (mut slot, check) = slot_of_hash(hash);
        while self.checks[slot] != 0 && self.checks[slot] != check {
            slot = (slot + 1) & (TABLE_SLOTS - 1);
        }
        self.checks[slot] = check;
        self.values[slot] = value;
    }

    /// Reads the text of the table.
    const fn parse(text: &[u8]) -> Self {
        let mut table =
            Self { checks: [0; TABLE_SLOTS], values: [0; TABLE_SLOTS], flags: [0; LINES_MAX] };
        let (mut at, mut line, mut in_names) = (0, 0_u16, false);
        while at < text.len() {
            let is_line_start = at == 0 || text[at - 1] == b'\n';
            match text[at] {
                b'#' if is_line_start => {
                    while text[at] != b'\n' {
                        at += 1;
                    }
                }
                b' ' | b'\n' => at += 1,
                _ if is_line_start || in_names => {
                    if is_line_start {
                        line += 1;
                    }
                    // A name ends with a comma, the last one with a colon and a space.
                    let start = at;
                    while text[at] != b',' && !(text[at] == b':' && is_space(text[at + 1])) {
                        at += 1;
                    }
                    table.insert(hash_range(HASH_SEED, text, start, at), line);
                    table.mark_subcommand(text, start, at);
                    in_names = text[at] == b',';
                    at += 1;
                }
                _ => {
                    let start = at;
                    while !is_space(text[at]) {
                        at += 1;
                    }
                    table.flags[line as usize] |= rule_flag(text, start, at);
                    table.insert_rule(seed_of_line(line), text, start, at);
                }
            }
        }
        table
    }

    /// Notes for a tool that one of its subcommands has a line, if `start..end` is the name of a
    /// subcommand.
    const fn mark_subcommand(&mut self, text: &[u8], start: usize, end: usize) {
        let mut at = start;
        while at < end && text[at] != b' ' {
            at += 1;
        }
        if at == end {
            return;
        }
        let (mut slot, check) = slot_of_hash(hash_range(HASH_SEED, text, start, at));
        while self.checks[slot] != check {
            assert!(self.checks[slot] != 0, "a tool comes before its subcommands");
            slot = (slot + 1) & (TABLE_SLOTS - 1);
        }
        self.flags[self.values[slot] as usize] |= HAS_SUBCOMMAND_RULES;
    }

    const fn insert_rule(&mut self, seed: u64, text: &[u8], start: usize, end: usize) {
        if text[start] == b'&' {
            let mut at = start + 1;
            while at < end {
                self.insert(hash(seed, &[b'-', text[at]]), b'0' as u16);
                at += 1;
            }
            return;
        }
        let last = text[end - 1];
        let is_sign = match last {
            b'?' | b'+' | b'!' | b':' | b'%' | b',' | b'/' | b'=' | b';' | b'~' | b'$' | b'<'
            | b'*' => true,
            b'0' => text[start] == b'-',
            b'>' => text[start] == b'@',
            _ => false,
        };
        // `*` and `$` alone are names and signs at once.
        let is_flag = end - start == 1;
        let name_end = if is_sign && !is_flag { end - 1 } else { end };
        let value = if !is_sign {
            b' '
        } else if last == b'*' {
            b'0'
        } else {
            last
        };
        self.insert(hash_range(seed, text, start, name_end), value as u16);
        // `word>1` is also inserted as `word>`, so that one search shows whether any rule follows
        // the word.
        if name_end >= start + 3 && text[name_end - 2] == b'>' {
            self.insert(hash_range(seed, text, start, name_end - 1), b'0' as u16);
        }
    }
}

/// The bit for the kind of a rule.
const fn rule_flag(text: &[u8], start: usize, end: usize) -> u8 {
    match text[start] {
        b'*' => RUNS_TOOL,
        b'$' => WORDS_ARE_SCRIPTS,
        b'<' => READS_SECRET,
        b'@' => HAS_POSITION_RULES,
        _ => {
            let mut at = start;
            while at < end && text[at] != b'>' {
                at += 1;
            }
            if at < end { HAS_RULES_AFTER_WORDS } else { 0 }
        }
    }
}

const fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\n'
}
