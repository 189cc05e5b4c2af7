//! Resolves names to modules.
//!
//! A module can be reached through an alias, a glob, or a re-export of a third module. So the first
//! name of a path is resolved as the compiler does it, in the block, in the module and in its
//! globs, and then the path is followed from module to module.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use syn::Item;

use crate::{
    items::{Written, imports, own_name},
    scope::Scope,
    tree::{Module, ModulePath, Tree, child, name_of},
};

/// Upper bound of resolution passes: more than any readable chain of imports needs.
const MAX_PASSES: usize = 32;

/// Where a path is written: a module, or a block in a module.
pub(crate) struct Position<'a> {
    pub(crate) module: &'a [String],
    /// How many of the first names of `module` are the root of its crate.
    pub(crate) root: usize,
    /// Enclosing blocks, from the outermost to the innermost.
    pub(crate) blocks: &'a [Scope],
}

/// The modules that a name may stand for; `None` if the name is not known here.
type Targets = Option<Vec<ModulePath>>;

/// The globs that are being resolved now, so that two modules which import each other do not
/// recurse forever.
type Busy<'a> = HashSet<&'a ModulePath>;

/// The names that each module declares and imports.
pub(crate) struct Names {
    scopes: BTreeMap<ModulePath, Scope>,
    roots: BTreeSet<ModulePath>,
    /// The names of the library: its name in programs, and the names given by `extern crate self as
    /// …`.
    library: BTreeSet<String>,
}

impl Names {
    /// Collects what each module declares and imports.
    pub(crate) fn of(tree: &Tree, library: &str) -> Self {
        let mut names = Self {
            scopes: BTreeMap::new(),
            roots: tree.modules.iter().map(|it| it.path[..it.root].to_vec()).collect(),
            library: BTreeSet::from([library.to_owned()]),
        };
        for module in &tree.modules {
            names.scopes.entry(module.path.clone()).or_default();
        }
        for module in &tree.modules {
            names.declare(module);
        }
        // An import may depend on another import, which may be further down or in another file. So
        // all are resolved again until nothing is added.
        for _ in 0..MAX_PASSES {
            let imported = tree.modules.iter().map(|Module { path, root, items, .. }| {
                let position = Position { module: path, root: *root, blocks: &[] };
                (path.clone(), names.imported(&position, items.iter()))
            });
            let imported: Vec<(ModulePath, Scope)> = imported.collect();
            let mut has_grown = false;
            for (path, scope) in imported {
                has_grown |= names.scopes.entry(path).or_default().merge(scope);
            }
            if !has_grown {
                return names;
            }
        }
        panic!("after {MAX_PASSES} passes imports still lead to new names: is there a circle?");
    }

    fn declare(&mut self, module: &Module) {
        let scope = self.scopes.entry(module.path.clone()).or_default();
        scope.declare(Some(&module.path), module.items.iter());
        // `#[macro_export]` puts a macro at the crate's root, wherever it is written.
        let root = &module.path[..module.root];
        for item in &module.items {
            let Item::Macro(item) = item else { continue };
            let is_exported = item.attrs.iter().any(|it| it.path().is_ident("macro_export"));
            if let (Some(ident), true, true) = (&item.ident, is_exported, module.path != root) {
                let target = child(&module.path, &name_of(ident));
                let scope = self.scopes.entry(root.to_vec()).or_default();
                scope.names.entry(name_of(ident)).or_default().insert(target);
            }
        }
        if module.path.is_empty() {
            let own = module.items.iter().filter_map(own_name);
            self.library.extend(own);
        }
    }

    /// The scope of a block, or of a module that is declared inside one.
    pub(crate) fn of_block(&self, position: &Position<'_>, items: &[&Item]) -> Scope {
        let mut scope = Scope::default();
        scope.declare(None, items.iter().copied());
        for _ in 0..MAX_PASSES {
            let blocks = [position.blocks, &[scope.clone()]].concat();
            let inside = Position { blocks: &blocks, ..*position };
            if !scope.merge(self.imported(&inside, items.iter().copied())) {
                return scope;
            }
        }
        panic!("after {MAX_PASSES} passes imports still lead to new names: is there a circle?");
    }

    fn imported<'i>(
        &self,
        position: &Position<'_>,
        items: impl Iterator<Item = &'i Item>,
    ) -> Scope {
        let mut scope = Scope::default();
        for item in items {
            let Item::Use(item) = item else { continue };
            for import in imports(item) {
                scope.add(import.brings, self.full(position, &import.path));
            }
        }
        scope
    }

    /// The modules that a path names, in the order in which the path passes through them: the
    /// written one first, then those that re-exports lead to. The second value is true if the
    /// module is the last name of the path, so that the path names the module and not an item in
    /// it.
    pub(crate) fn named(&self, position: &Position<'_>, path: &Written) -> Vec<(ModulePath, bool)> {
        let mut found = Vec::new();
        for full in self.full(position, path) {
            let (busy, seen) = (&mut HashSet::new(), &mut HashSet::new());
            self.follow(Some(position.module), &full, busy, seen, &mut found);
        }
        found
    }

    /// The paths from the crate's root that a written path may stand for; empty if it names another
    /// crate.
    fn full(&self, position: &Position<'_>, path: &Written) -> Vec<ModulePath> {
        let module = position.module;
        let Some((first, rest)) = path.names.split_first() else { return Vec::new() };
        let starts = match first.as_str() {
            _ if path.is_absolute => self.library_root(first),
            "crate" => vec![module[..position.root].to_vec()],
            "self" | "super" => {
                let ups = path.names.iter().skip_while(|name| *name == "self");
                let ups = ups.take_while(|name| *name == "super").count();
                let selves = path.names.iter().take_while(|name| *name == "self").count();
                let Some(depth) = module.len().checked_sub(ups) else { return Vec::new() };
                let rest = &path.names[selves + ups..];
                return vec![[&module[..depth], rest].concat()];
            }
            _ => self.resolve_first(position, first),
        };
        starts.into_iter().map(|start| [&start[..], rest].concat()).collect()
    }

    fn resolve_first(&self, position: &Position<'_>, name: &str) -> Vec<ModulePath> {
        let busy = &mut HashSet::new();
        let mut blocks = position.blocks.iter().rev();
        blocks
            .find_map(|block| self.in_scope(block, name, busy))
            .or_else(|| self.in_module(position.module, name, busy))
            .unwrap_or_else(|| self.library_root(name))
    }

    fn library_root(&self, name: &str) -> Vec<ModulePath> {
        if self.library.contains(name) { vec![ModulePath::new()] } else { Vec::new() }
    }

    /// The modules that a name stands for in a module; `None` if the module does not have the name.
    fn in_module<'s>(&'s self, module: &[String], name: &str, busy: &mut Busy<'s>) -> Targets {
        let below = child(module, name);
        let scope = self.scopes.get(module)?;
        if !self.scopes.contains_key(&below) {
            return self.in_scope(scope, name, busy);
        }
        // With a `cfg`, a declared module and an import may share one name.
        let others = scope.names.get(name).into_iter().flatten().cloned();
        Some([below].into_iter().chain(others).collect())
    }

    fn in_scope<'s>(&'s self, scope: &'s Scope, name: &str, busy: &mut Busy<'s>) -> Targets {
        if let Some(targets) = scope.names.get(name) {
            return Some(targets.iter().cloned().collect());
        }
        let mut found: Targets = None;
        for glob in &scope.globs {
            if !busy.insert(glob) {
                continue;
            }
            let mut modules = Vec::new();
            self.follow(None, glob, busy, &mut HashSet::new(), &mut modules);
            for (module, _) in modules.iter().filter(|(_, is_whole)| *is_whole) {
                let targets = self.in_module(module, name, busy);
                found = found.into_iter().chain(targets).reduce(|a, b| [a, b].concat());
            }
            busy.remove(glob);
        }
        found
    }

    /// Follows a path from the crate's root through re-exports.
    ///
    /// Where `from` is given, a re-export of a foreign item by another top-level module is not
    /// followed: that module is a facade, and depending on the facade is not depending on the
    /// module behind it.
    fn follow<'s>(
        &'s self,
        from: Option<&[String]>,
        path: &[String],
        busy: &mut Busy<'s>,
        seen: &mut HashSet<ModulePath>,
        found: &mut Vec<(ModulePath, bool)>,
    ) {
        let is_module = |length: &usize| self.scopes.contains_key(&path[..*length]);
        let Some(longest) = (0..=path.len()).rev().find(is_module) else { return };
        found.push((path[..longest].to_vec(), longest == path.len()));
        for length in (0..path.len().min(longest + 1)).filter(is_module) {
            let (module, rest) = path.split_at(length);
            for target in self.in_module(module, &rest[0], busy).unwrap_or_default() {
                let is_followed = from.is_none_or(|from| {
                    self.roots.contains(module)
                        || from.first() == module.first()
                        || target.first() == module.first()
                });
                if is_followed && target != path[..=length] && seen.insert(target.clone()) {
                    let path = [&target[..], &rest[1..]].concat();
                    self.follow(from, &path, busy, seen, found);
                }
            }
        }
    }
}
