//! The names that one module or one block has.

use std::collections::{BTreeMap, BTreeSet};

use syn::Item;

use crate::{
    items::{Brings, declared, imports, own_name},
    tree::{ModulePath, child, name_of},
};

/// Each name with the paths that it may stand for, several where a `cfg` decides. A name that
/// stands for none, because it is another crate's, is here too: it hides what a glob brings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    pub(crate) names: BTreeMap<String, BTreeSet<ModulePath>>,
    pub(crate) globs: BTreeSet<ModulePath>,
}

impl Scope {
    /// Notes each name, so that it hides what a glob brings, before any import is resolved. Items
    /// of a block have no path by which others could reach them.
    pub(crate) fn declare<'i>(
        &mut self,
        module: Option<&[String]>,
        items: impl Iterator<Item = &'i Item>,
    ) {
        for item in items {
            if let Item::Use(item) = item {
                for import in imports(item) {
                    if let Brings::Name(name) = import.brings {
                        self.names.entry(name).or_default();
                    }
                }
            } else if let Item::ExternCrate(found) = item {
                let name = found.rename.as_ref().map_or(&found.ident, |(_, rename)| rename);
                let targets = self.names.entry(name_of(name)).or_default();
                targets.extend(own_name(item).map(|_| ModulePath::new()));
            } else if let Some(name) = declared(item).map(name_of) {
                let target = module.map(|module| child(module, &name));
                self.names.entry(name).or_default().extend(target);
            }
        }
    }

    pub(crate) fn add(&mut self, brings: Brings, targets: Vec<ModulePath>) {
        match brings {
            Brings::Name(name) => self.names.entry(name).or_default().extend(targets),
            Brings::All => self.globs.extend(targets),
            Brings::Nothing => {}
        }
    }

    /// Whether anything was new.
    pub(crate) fn merge(&mut self, other: Self) -> bool {
        let size = |it: &Self| it.globs.len() + it.names.values().map(BTreeSet::len).sum::<usize>();
        let before = size(self);
        self.globs.extend(other.globs);
        for (name, targets) in other.names {
            let known = self.names.entry(name).or_default();
            // `use x::x;` beside `mod x;` is not `x::x::x`, nor that with one more each time.
            let is_longer = |target: &ModulePath| {
                known.iter().any(|it| target.len() > it.len() && target.starts_with(it))
            };
            let targets: Vec<ModulePath> =
                targets.into_iter().filter(|target| !is_longer(target)).collect();
            known.extend(targets);
        }
        size(self) > before
    }
}
