//! Finds the paths inside a macro, where there are only tokens.
//!
//! It is not known what a macro does with its tokens, so everything that could be a path counts as
//! a path: `crate::a::b`, `super::c`, and a name from an import or a module, followed by `::`.

use proc_macro2::{Delimiter, Group, Literal, Spacing, TokenStream, TokenTree};
use syn::{Item, ItemUse, LitStr};

use crate::{items::Written, paths::Reader, tree::name_of};

/// Words that may precede a path which begins with `::` without being part of it.
const BEFORE_A_PATH: [&str; 16] = [
    "as", "break", "const", "dyn", "else", "for", "if", "impl", "in", "match", "move", "mut",
    "ref", "return", "use", "where",
];

impl Reader<'_> {
    /// Reads the tokens of a macro or, where a string may be a path, of an attribute. Imports among
    /// the tokens are in scope.
    pub(crate) fn read_tokens(&mut self, tokens: &TokenStream, is_attribute: bool) {
        let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
        let imports = (0..tokens.len()).filter_map(|at| import_at(&tokens[at..]));
        let imports: Vec<Item> = imports.map(|(import, _)| Item::Use(import)).collect();
        let imports: Vec<&Item> = imports.iter().collect();
        self.in_block(&imports, |reader| {
            let mut at = 0;
            while at < tokens.len() {
                at += reader.read_token(&tokens, at, is_attribute);
            }
        });
    }

    /// Reads the import, path or group that begins at a token. Returns how many tokens it has.
    fn read_token(&mut self, tokens: &[TokenTree], at: usize, is_attribute: bool) -> usize {
        match &tokens[at] {
            TokenTree::Group(group) => self.read_group(&tokens[..at], group, is_attribute),
            TokenTree::Ident(ident) if ident == "unsafe" => self.note_unsafe(ident.span()),
            TokenTree::Ident(_) => {
                if let Some((import, length)) = import_at(&tokens[at..]) {
                    self.note_import(&import);
                    return length;
                }
                if let Some(is_absolute) = begins_path(&tokens[..at], &tokens[at]) {
                    return self.read_path(Vec::new(), is_absolute, &tokens[at..]);
                }
            }
            TokenTree::Literal(literal) if is_attribute => self.read_literal(literal),
            TokenTree::Literal(_) | TokenTree::Punct(_) => {}
        }
        1
    }

    fn read_group(&mut self, before: &[TokenTree], group: &Group, is_attribute: bool) {
        let tokens = group.stream();
        match (before, group.delimiter()) {
            // `pub(in crate::x)` limits who may use an item; it names no module.
            ([.., word], Delimiter::Parenthesis) if is_word(word, "pub") => {}
            ([.., word, TokenTree::Ident(name)], Delimiter::Brace) if is_word(word, "mod") => {
                self.in_module(&name_of(name), |reader| reader.read_tokens(&tokens, false));
            }
            ([.., sign], Delimiter::Bracket) if is_sign(sign, '#') => {
                self.read_tokens(&tokens, true);
            }
            _ => self.read_tokens(&tokens, is_attribute),
        }
    }

    /// Reads a path that continues the given names. Returns how many tokens it has.
    fn read_path(
        &mut self,
        mut names: Vec<String>,
        is_absolute: bool,
        tokens: &[TokenTree],
    ) -> usize {
        let TokenTree::Ident(first) = &tokens[0] else { return 1 };
        if first != "self" || names.is_empty() {
            names.push(name_of(first));
        }
        let mut length = 1;
        while let [first, second, next, ..] = &tokens[length..]
            && is_colons(first, second)
        {
            match next {
                TokenTree::Ident(name) => names.push(name_of(name)),
                TokenTree::Group(list) if list.delimiter() == Delimiter::Brace => {
                    self.read_list(&names, is_absolute, &list.stream());
                    return length + 3;
                }
                _ if is_sign(next, '$') => {
                    self.refuse_completed(&names, next);
                    break;
                }
                _ => break,
            }
            length += 3;
        }
        // A single name counts only if it is written like a type or a constant. Other single names
        // are variables, fields, and words of the macro's own syntax.
        if names.len() > 1 || names[0].starts_with(char::is_uppercase) {
            let line = first.span().start().line;
            self.note(&Written { names, is_absolute, line });
        }
        length
    }

    /// Reads the list of an import that does not parse because a macro completes it.
    fn read_list(&mut self, names: &[String], is_absolute: bool, list: &TokenStream) {
        let tokens: Vec<TokenTree> = list.clone().into_iter().collect();
        let mut begins = true;
        for (at, token) in tokens.iter().enumerate() {
            if begins && is_sign(token, '$') {
                self.refuse_completed(names, token);
            } else if begins {
                self.read_path(names.to_vec(), is_absolute, &tokens[at..]);
            }
            begins = is_sign(token, ',');
        }
    }

    /// Reports a path like `crate::$module`, which could name any module.
    fn refuse_completed(&mut self, names: &[String], at: &TokenTree) {
        if names.iter().all(|name| name == "crate" || name == "super") {
            let what = "a macro completes this path: write out which module it names";
            self.note_defect(at.span(), what);
        }
    }

    fn read_literal(&mut self, literal: &Literal) {
        let token = TokenStream::from(TokenTree::from(literal.clone()));
        if let Ok(string) = syn::parse2::<LitStr>(token) {
            self.read_string(&string);
        }
    }
}

/// The import that begins here and how many tokens it has; `None` if there is none.
fn import_at(tokens: &[TokenTree]) -> Option<(ItemUse, usize)> {
    if !tokens.first().is_some_and(|word| is_word(word, "use")) {
        return None;
    }
    let end = tokens.iter().position(|token| is_sign(token, ';'))?;
    // In the body of a macro, `$crate` stands for this crate.
    let is_own = |at: usize| {
        is_sign(&tokens[at], '$') && tokens.get(at + 1).is_some_and(|next| is_word(next, "crate"))
    };
    let import = (0..=end).filter(|at| !is_own(*at)).map(|at| tokens[at].clone());
    Some((syn::parse2(import.collect()).ok()?, end + 1))
}

/// Whether a path begins at an identifier: `None` if not, otherwise whether it begins with `::`.
fn begins_path(before: &[TokenTree], ident: &TokenTree) -> Option<bool> {
    match before {
        [.., dot, last] if is_sign(last, '.') => is_sign(dot, '.').then_some(false),
        // A lifetime, or a fragment that the macro fills in.
        [.., last] if is_sign(last, '\'') => None,
        [.., last] if is_sign(last, '$') => is_word(ident, "crate").then_some(false),
        [rest @ .., first, second] if is_colons(first, second) => match rest.last() {
            Some(TokenTree::Ident(word)) => {
                BEFORE_A_PATH.iter().any(|it| word == it).then_some(true)
            }
            // After `Vec<T>::`, and after what a macro fills in.
            Some(TokenTree::Group(_)) => None,
            Some(token) if is_sign(token, '>') => None,
            _ => Some(true),
        },
        _ => Some(false),
    }
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn is_sign(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

fn is_colons(first: &TokenTree, second: &TokenTree) -> bool {
    let is_joint = matches!(first, TokenTree::Punct(punct) if punct.spacing() == Spacing::Joint);
    is_joint && is_sign(first, ':') && is_sign(second, ':')
}
