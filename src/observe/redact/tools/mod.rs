//! The table of the tools' own options, and where to find a rule in it.
//!
//! `services.txt` and `system.txt` are the table; the first one says what its signs mean. The
//! compiler reads it: the program contains only arrays of numbers, an index by hash. They have no
//! pointers, so they are never written to when the program is loaded, and all shims share their
//! pages.

/// How the value of an option, or a positional argument, has to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Secret,
    Likely,
    /// A secret only if it is attached: `-pX`.
    Attached,
    Harmless,
    /// `user:SECRET`, and the same with other separators.
    Pair(u8),
    /// `name=SECRET`.
    Assignment,
    Cookies,
    /// `pass:SECRET`.
    Source,
    Script,
    /// No value, but the command reads a secret from stdin.
    Stdin,
    /// No value.
    Switch,
}

/// A line of the table: the rules of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules(u16);

/// The hash of a tool's name, to which the names of its subcommands can be added.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name(u64);

impl Name {
    pub(super) fn new(tool: &[u8]) -> Self {
        Self(hash(SEED, tool))
    }

    /// The rules of the tool with this name.
    pub(super) fn rules(self) -> Option<Rules> {
        find(self.0).map(Rules)
    }

    /// The rules that are added after this word.
    pub(super) fn rules_after(self, word: &[u8]) -> Option<Rules> {
        Self(hash(hash(self.0, b" "), word)).rules()
    }
}

impl Rules {
    /// The rule for an option.
    pub(super) fn option(self, name: &[u8]) -> Option<Kind> {
        find(hash(self.seed(), name)).and_then(|value| kind((value & 0xff).to_le_bytes()[0]))
    }

    /// The rule for the word that follows `word` at this distance; without a distance, whether
    /// there is one for any.
    pub(super) fn after(self, word: &[u8], distance: Option<u8>) -> Option<Kind> {
        let hash_of_any = hash(hash(self.seed(), word), b">");
        let hash = distance.map_or(hash_of_any, |distance| hash(hash_of_any, &[b'0' + distance]));
        find(hash).and_then(|value| kind((value & 0xff).to_le_bytes()[0]))
    }

    /// The rule for the word at this place among those that are no options.
    pub(super) fn place(self, place: u8) -> Option<Kind> {
        self.option(&[b'@', b'0' + place])
    }

    /// What kinds of rules there are: most tools have only some.
    pub(super) fn flags(self) -> u8 {
        TABLE.flags[usize::from(self.0)]
    }

    fn seed(self) -> u64 {
        seed(self.0)
    }
}

/// The tool runs another program.
pub(super) const WRAPS: u8 = 1;
/// All words are scripts.
pub(super) const SCRIPTS: u8 = 2;
/// There are rules for the words after another one.
pub(super) const AFTER: u8 = 4;
/// There are rules for places.
pub(super) const PLACES: u8 = 8;
/// There are more rules after some subcommand.
pub(super) const SUBCOMMANDS: u8 = 16;
/// The tool reads secrets from stdin.
pub(super) const READS: u8 = 32;

/// How many words after a word a rule may be about.
pub(super) const DISTANCE_MAX: u8 = 4;

/// Longer words are no name of a tool or an option in the table.
pub(super) const NAME_MAX: usize = 40;

fn kind(sign: u8) -> Option<Kind> {
    Some(match sign {
        b' ' => Kind::Secret,
        b'?' => Kind::Likely,
        b'+' => Kind::Attached,
        b'!' => Kind::Harmless,
        b':' | b'%' | b',' | b'/' | b'>' => Kind::Pair(sign),
        b'=' => Kind::Assignment,
        b';' => Kind::Cookies,
        b'~' => Kind::Source,
        b'$' => Kind::Script,
        b'<' => Kind::Stdin,
        b'0' => Kind::Switch,
        _ => return None,
    })
}

static TABLE: Table =
    Table::read(concat!(include_str!("services.txt"), include_str!("system.txt")).as_bytes());

/// An open hash table from 64-bit hashes to a line or a sign. The upper halves of the hashes are
/// kept: that two words of the table, or of some argument, have the same hash is not excluded, but
/// about as likely as a damaged bit.
struct Table {
    checks: [u32; SLOTS],
    values: [u16; SLOTS],
    /// The kinds of rules of each line.
    flags: [u8; LINES],
}

/// More than there are tools in the table.
const LINES: usize = 512;

/// A power of two.
const SLOTS: usize = 8192;
const SEED: u64 = 0xcbf2_9ce4_8422_2325;

const fn seed(line: u16) -> u64 {
    (SEED ^ line as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
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

/// The slot where a search begins, and the number that is compared there; never 0.
#[expect(
    clippy::cast_possible_truncation,
    reason = "only the lower bits count for the slot, and the upper half has 32 bits"
)]
const fn slot(hash: u64) -> (usize, u32) {
    let mixed = hash ^ hash >> 29;
    ((mixed as usize) & (SLOTS - 1), (hash >> 32) as u32 | 1)
}

fn find(hash: u64) -> Option<u16> {
    let (mut slot, check) = slot(hash);
    loop {
        match TABLE.checks[slot] {
            0 => return None,
            found if found == check => return Some(TABLE.values[slot]),
            _ => slot = (slot + 1) & (SLOTS - 1),
        }
    }
}

impl Table {
    const fn insert(&mut self, hash: u64, value: u16) {
        let (mut slot, check) = slot(hash);
        while self.checks[slot] != 0 && self.checks[slot] != check {
            slot = (slot + 1) & (SLOTS - 1);
        }
        self.checks[slot] = check;
        self.values[slot] = value;
    }

    /// Reads the text of the table.
    const fn read(text: &[u8]) -> Self {
        let mut table = Self { checks: [0; SLOTS], values: [0; SLOTS], flags: [0; LINES] };
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
                    table.insert(hash_range(SEED, text, start, at), line);
                    table.mark_subcommand(text, start, at);
                    in_names = text[at] == b',';
                    at += 1;
                }
                _ => {
                    let start = at;
                    while !is_space(text[at]) {
                        at += 1;
                    }
                    table.flags[line as usize] |= flag(text, start, at);
                    table.rule(seed(line), text, start, at);
                }
            }
        }
        table
    }

    /// Marks the tool of a line that is about one of its subcommands.
    const fn mark_subcommand(&mut self, text: &[u8], start: usize, end: usize) {
        let mut at = start;
        while at < end && text[at] != b' ' {
            at += 1;
        }
        if at == end {
            return;
        }
        let (mut slot, check) = slot(hash_range(SEED, text, start, at));
        while self.checks[slot] != check {
            assert!(self.checks[slot] != 0, "a tool comes before its subcommands");
            slot = (slot + 1) & (SLOTS - 1);
        }
        self.flags[self.values[slot] as usize] |= SUBCOMMANDS;
    }

    const fn rule(&mut self, seed: u64, text: &[u8], start: usize, end: usize) {
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
        // `word>1`: that there is a rule after the word can be asked with one search.
        if name_end >= start + 3 && text[name_end - 2] == b'>' {
            self.insert(hash_range(seed, text, start, name_end - 1), b'0' as u16);
        }
    }
}

/// Which kind of rule this is.
const fn flag(text: &[u8], start: usize, end: usize) -> u8 {
    match text[start] {
        b'*' => WRAPS,
        b'$' => SCRIPTS,
        b'<' => READS,
        b'@' => PLACES,
        _ => {
            let mut at = start;
            while at < end && text[at] != b'>' {
                at += 1;
            }
            if at < end { AFTER } else { 0 }
        }
    }
}

const fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\n'
}
