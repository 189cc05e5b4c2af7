//! Reads which names a single item brings into its scope.

use proc_macro2::Ident;
use syn::{Item, ItemUse, UseTree};

use crate::tree::{child, name_of};

/// A path as it is written in the source.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) names: Vec<String>,
    /// Whether the path begins with `::`: it then names another crate, or this crate by its own
    /// name.
    pub(crate) is_absolute: bool,
    pub(crate) line: usize,
}

/// One imported path: a leaf of a `use` tree.
pub(crate) struct Import {
    pub(crate) path: Written,
    pub(crate) brings: Brings,
}

/// What an import adds to its scope.
pub(crate) enum Brings {
    Name(String),
    All,
    /// Nothing that can be named: `as _`.
    Nothing,
}

/// The leaves of a `use`, each with its whole path.
pub(crate) fn imports(item: &ItemUse) -> Vec<Import> {
    fn leaves(tree: &UseTree, before: &[String], is_absolute: bool, found: &mut Vec<Import>) {
        let mut leaf = |ident: &Ident, brings: Brings| {
            let name = name_of(ident);
            // `a::{self}` is `a`.
            let names = if name == "self" && !before.is_empty() {
                before.to_vec()
            } else {
                child(before, &name)
            };
            let line = ident.span().start().line;
            let brings = match (brings, names.last()) {
                (Brings::Name(name), Some(last)) if name == "self" => Brings::Name(last.clone()),
                (brings, _) => brings,
            };
            found.push(Import { path: Written { names, is_absolute, line }, brings });
        };
        match tree {
            UseTree::Name(it) => leaf(&it.ident, Brings::Name(name_of(&it.ident))),
            UseTree::Rename(it) if it.rename == "_" => leaf(&it.ident, Brings::Nothing),
            UseTree::Rename(it) => leaf(&it.ident, Brings::Name(name_of(&it.rename))),
            UseTree::Path(it) => {
                leaves(&it.tree, &child(before, &name_of(&it.ident)), is_absolute, found);
            }
            UseTree::Group(it) => {
                for tree in &it.items {
                    leaves(tree, before, is_absolute, found);
                }
            }
            UseTree::Glob(it) => {
                let line = it.star_token.spans[0].start().line;
                let path = Written { names: before.to_vec(), is_absolute, line };
                found.push(Import { path, brings: Brings::All });
            }
        }
    }
    let mut found = Vec::new();
    leaves(&item.tree, &[], item.leading_colon.is_some(), &mut found);
    found
}

/// The name that an item declares in its scope; `None` for an item without a name. Macros are left
/// out, because their names have scopes of their own.
pub(crate) fn declared(item: &Item) -> Option<&Ident> {
    match item {
        Item::Const(item) => Some(&item.ident),
        Item::Enum(item) => Some(&item.ident),
        Item::Fn(item) => Some(&item.sig.ident),
        Item::Mod(item) => Some(&item.ident),
        Item::Static(item) => Some(&item.ident),
        Item::Struct(item) => Some(&item.ident),
        Item::Trait(item) => Some(&item.ident),
        Item::TraitAlias(item) => Some(&item.ident),
        Item::Type(item) => Some(&item.ident),
        Item::Union(item) => Some(&item.ident),
        _ => None,
    }
}

/// The name that `extern crate self as …` gives this crate; `None` for any other item.
pub(crate) fn own_name(item: &Item) -> Option<String> {
    let Item::ExternCrate(item) = item else { return None };
    let (_, name) = item.rename.as_ref().filter(|_| item.ident == "self")?;
    Some(name_of(name))
}
