//! The names in scope in one module or one block.

use std::collections::{BTreeMap, BTreeSet};

use syn::Item;

use crate::{
    items::{Brings, declared, imports, own_name},
    tree::{ModulePath, child, name_of},
};

/// Maps each name to the paths that it may stand for; there are several where a `cfg` decides. The
/// name of another crate maps to no path, but is kept because it shadows a name from a glob.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    pub(crate) names: BTreeMap<String, BTreeSet<ModulePath>>,
    pub(crate) globs: BTreeSet<ModulePath>,
}

impl Scope {
    /// Declares each name before any import is resolved, so that it shadows names from globs. Items
    /// of a block have no path by which other modules could reach them.
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

    /// Adds the names of `other`. Returns whether anything was new.
    pub(crate) fn merge(&mut self, other: Self) -> bool {
        let size = |it: &Self| it.globs.len() + it.names.values().map(BTreeSet::len).sum::<usize>();
        let before = size(self);
        self.globs.extend(other.globs);
        for (name, targets) in other.names {
            let known = self.names.entry(name).or_default();
            // `use x::x;` next to `mod x;` must not grow into `x::x::x`, and so on with each pass.
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
