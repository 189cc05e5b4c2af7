//! A command of which the words are being read: its tool, the rules that apply to it, and what they
//! show about the next words. `words` reads the words.
//!
//! The words are arguments, or come from a script that an argument contains: see `script`.

mod words;

use super::{
    names::ValueKind,
    tools::{self, DISTANCE_MAX, ToolName, ToolRules, Treatment},
};

/// How many levels of scripts within scripts are read. Each level reads the text of its script once
/// more.
pub(super) const SCRIPT_DEPTH_MAX: u8 = 3;

/// How many lines of the table can apply to one command: that of its tool, and those of up to three
/// subcommands, each within the one before (`aws secretsmanager ...`).
const RULES_MAX: usize = 4;

/// A command of which the words are being read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Command {
    /// The name of the tool; `None` before it is found, and for a tool that is not in the table.
    name: Option<ToolName>,
    /// The rules of the tool and of the subcommands that were read; `None` where there is none.
    rules: [Option<ToolRules>; RULES_MAX],
    /// Which kinds of rules `rules` has: the bits of [`ToolRules::rule_flags`].
    rule_flags: u8,
    /// Whether the next word may be the name of another tool, which this command runs (`sudo
    /// mysql`).
    may_run_tool: bool,
    /// The number of words so far that are not options, without the name of the tool.
    position: u8,
    next_word: NextWord,
    /// Whether the last word was `set` or `config`, after which a name and its value may follow.
    after_set: bool,
    /// The treatment of the following words that are not options, by their distance from the last
    /// word.
    coming_words: [Option<Treatment>; DISTANCE_MAX as usize],
    /// Whether the command writes its words to stdout: `echo`, `printf`.
    pub(super) is_echo: bool,
    /// Whether the words are of a text that may be no script, and that was searched for secrets as
    /// a whole already.
    already_scanned: bool,
    /// How the secret that the command reads from stdin is written there; `None` if it reads none.
    pub(super) reads_secret: Option<Treatment>,
    /// The number of scripts within scripts in which the command is; 0 for arguments.
    pub(super) script_depth: u8,
}

/// What the last word shows about the next word of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextWord {
    /// Nothing.
    Any,
    /// It is the value of an option with a name that has values of this kind.
    Named(ValueKind),
    /// It is the value of an option that has a rule in the table.
    Ruled(Treatment),
    /// It is the value of a short option that has no rule.
    Short,
    /// It is the value of an option that has no rule, or a word of its own.
    Unknown,
    /// It is the scheme or the credential of an `Authorization` header that is split into words.
    Credential,
}

impl Command {
    /// A command of which no word has been read.
    pub(super) fn new(depth: u8) -> Self {
        Self {
            name: None,
            rules: [None; RULES_MAX],
            rule_flags: 0,
            may_run_tool: true,
            position: 0,
            next_word: NextWord::Any,
            after_set: false,
            coming_words: [None; DISTANCE_MAX as usize],
            is_echo: false,
            already_scanned: false,
            reads_secret: None,
            script_depth: depth,
        }
    }

    /// A command for the words of a text that may be no script, and was searched as a whole
    /// already.
    pub(super) fn of_text(depth: u8) -> Self {
        Self { already_scanned: true, ..Self::new(depth) }
    }

    /// The first rule that `rule` finds, with those of the last subcommand first.
    fn find_rule(&self, rule: impl Fn(ToolRules) -> Option<Treatment>) -> Option<Treatment> {
        // The rules of the last subcommand are the last ones, and more specific than the others.
        self.rules.iter().rev().flatten().find_map(|rules| rule(*rules))
    }

    /// The rule for an option of this command.
    fn option_rule(&self, name: &[u8]) -> Option<Treatment> {
        if self.rules[0].is_none() || name.len() > tools::NAME_MAX {
            return None;
        }
        self.find_rule(|rules| rules.option_rule(name))
    }

    /// Whether the next word is a secret, or names the place from which a secret is read.
    pub(super) fn expects_secret(&self) -> bool {
        matches!(
            self.next_word,
            NextWord::Named(ValueKind::Source | ValueKind::Secret | ValueKind::Pair)
                | NextWord::Ruled(Treatment::Secret | Treatment::Source | Treatment::Pair(_))
        ) || self.coming_words[0].is_some()
    }

    /// Whether a word is a subcommand of the tool, and so not the name of another tool: `openssl
    /// passwd`.
    fn has_subcommand(&self, word: &[u8]) -> bool {
        self.rule_flags & tools::HAS_SUBCOMMAND_RULES != 0
            && word.len() <= tools::NAME_MAX
            && self.name.is_some_and(|name| name.rules_after(word).is_some())
    }

    /// Adds a line of the table that applies to the command from here on.
    fn add_rules(&mut self, rules: ToolRules) {
        if let Some(free) = self.rules.iter_mut().find(|rules| rules.is_none()) {
            *free = Some(rules);
        }
        self.rule_flags |= rules.rule_flags();
        if rules.rule_flags() & tools::READS_SECRET != 0 && self.reads_secret.is_none() {
            self.reads_secret = rules.option_rule(b"<");
        }
    }

    /// Begins a new command if the word is the name of a tool in the table. Returns whether it is.
    fn enter_tool(&mut self, word: &[u8]) -> bool {
        // A tool may be called by its path.
        let start = word.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let name = &word[start..];
        if name.is_empty() || name.len() > tools::NAME_MAX {
            return false;
        }
        let name = ToolName::new(name);
        let Some(rules) = name.rules() else { return false };
        *self = Self {
            reads_secret: self.reads_secret,
            already_scanned: self.already_scanned,
            ..Self::new(self.script_depth)
        };
        self.name = Some(name);
        self.may_run_tool = rules.rule_flags() & tools::RUNS_TOOL != 0;
        self.add_rules(rules);
        true
    }
}
