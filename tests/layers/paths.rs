//! Finds the paths that a module names, and its `unsafe` code.
//!
//! Not read are `pub(in path)`, which limits who may use an item and is no use of a module, and
//! comments, documentation and strings. The strings of an attribute are read where they are a path:
//! `#[serde(with = "crate::x")]` compiles to a call.

use std::collections::BTreeSet;

use proc_macro2::{Span, TokenStream};
use syn::{
    Attribute, Block, ExprUnsafe, Item, ItemExternCrate, ItemForeignMod, ItemImpl, ItemMod,
    ItemTrait, ItemUse, LitStr, Meta, Safety, Stmt, VisRestricted, WherePredicate,
    visit::{self, Visit},
};

use crate::{
    items::{Written, imports},
    names::{Names, Position},
    scope::Scope,
    tree::{Defect, ModulePath, Source, Tree, name_of},
};

/// Everything that the rules are checked against.
pub(crate) struct Findings {
    pub(crate) modules: BTreeSet<ModulePath>,
    pub(crate) references: BTreeSet<Reference>,
    pub(crate) unsafe_code: BTreeSet<Unsafe>,
    pub(crate) defects: BTreeSet<Defect>,
}

/// One module names another module, or itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) module: ModulePath,
    pub(crate) named: ModulePath,
}

/// One place with unsafe code.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unsafe {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) module: ModulePath,
}

impl Findings {
    /// Reads all modules. `library` is the name by which programs import the library.
    pub(crate) fn of(source: &Source, library: &str) -> Self {
        let tree = Tree::of(source);
        let names = Names::of(&tree, library);
        let mut found = Self {
            modules: tree.modules.iter().map(|module| module.path.clone()).collect(),
            references: BTreeSet::new(),
            unsafe_code: BTreeSet::new(),
            defects: tree.defects.into_iter().collect(),
        };
        for module in &tree.modules {
            let mut reader = Reader {
                names: &names,
                file: &module.file,
                root: module.root,
                module: module.path.clone(),
                blocks: Vec::new(),
                found: &mut found,
            };
            module.attributes.iter().for_each(|attribute| reader.visit_attribute(attribute));
            module.items.iter().for_each(|item| reader.visit_item(item));
        }
        found
    }
}

/// Visits the items of one module.
pub(crate) struct Reader<'a> {
    names: &'a Names,
    file: &'a str,
    root: usize,
    module: ModulePath,
    /// The enclosing blocks of the current item, from the outermost to the innermost.
    blocks: Vec<Scope>,
    found: &'a mut Findings,
}

impl Reader<'_> {
    /// Records the modules that a path names.
    pub(crate) fn note(&mut self, path: &Written) {
        let named = self.names.named(&self.position(), path);
        // A module alone is neither a value nor a type, so a single name that could be a module is
        // a variable, a field or the like.
        if path.names.len() == 1 && named.iter().any(|(_, is_module)| *is_module) {
            return;
        }
        self.note_modules(path.line, named.into_iter().map(|(module, _)| module));
    }

    /// Records the modules that an import names. In an import a single name can be a module.
    pub(crate) fn note_import(&mut self, item: &ItemUse) {
        for import in imports(item) {
            let named = self.names.named(&self.position(), &import.path);
            self.note_modules(import.path.line, named.into_iter().map(|(module, _)| module));
        }
    }

    pub(crate) fn note_unsafe(&mut self, span: Span) {
        let (file, module) = (self.file.to_owned(), self.module.clone());
        self.found.unsafe_code.insert(Unsafe { file, line: span.start().line, module });
    }

    pub(crate) fn note_defect(&mut self, span: Span, what: &str) {
        let (file, line) = (self.file.to_owned(), span.start().line);
        self.found.defects.insert(Defect { file, line, what: what.to_owned() });
    }

    /// Calls `read` with the names of these items in scope, as in a block.
    pub(crate) fn in_block(&mut self, items: &[&Item], read: impl FnOnce(&mut Self)) {
        // Each scope copies those around it, and most blocks have no items: skip these.
        if items.is_empty() {
            return read(self);
        }
        let scope = self.names.of_block(&self.position(), items);
        self.blocks.push(scope);
        read(self);
        self.blocks.pop();
    }

    /// Reads a module that is declared inside a block. It does not see the names of the blocks
    /// around it.
    pub(crate) fn in_module(&mut self, name: &str, read: impl FnOnce(&mut Self)) {
        let blocks = std::mem::take(&mut self.blocks);
        self.module.push(name.to_owned());
        read(self);
        self.module.pop();
        self.blocks = blocks;
    }

    fn position(&self) -> Position<'_> {
        Position { module: &self.module, root: self.root, blocks: &self.blocks }
    }

    fn note_modules(&mut self, line: usize, modules: impl Iterator<Item = ModulePath>) {
        for named in modules {
            let (file, module) = (self.file.to_owned(), self.module.clone());
            self.found.references.insert(Reference { file, line, module, named });
        }
    }

    /// Reads a string of an attribute that is a type, a path or a bound.
    pub(crate) fn read_string(&mut self, string: &LitStr) {
        // A string of one word is not a path: `rename = "shim"`.
        if !string.value().contains("::") {
            return;
        }
        if let Ok(found) = string.parse::<syn::Type>() {
            self.visit_type(&found);
        } else if let Ok(found) = string.parse::<WherePredicate>() {
            self.visit_where_predicate(&found);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let Some(first) = path.segments.first() {
            self.note(&Written {
                names: path.segments.iter().map(|segment| name_of(&segment.ident)).collect(),
                is_absolute: path.leading_colon.is_some(),
                line: first.ident.span().start().line,
            });
        }
        visit::visit_path(self, path);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        item.attrs.iter().for_each(|attribute| self.visit_attribute(attribute));
        self.note_import(item);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast ItemExternCrate) {
        item.attrs.iter().for_each(|attribute| self.visit_attribute(attribute));
    }

    /// Modules in blocks only: `tree` has already removed the others.
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        item.attrs.iter().for_each(|attribute| self.visit_attribute(attribute));
        let items: Vec<&Item> = item.content.iter().flat_map(|(_, items)| items).collect();
        self.in_module(&name_of(&item.ident), |reader| {
            reader.in_block(&items, |reader| items.iter().for_each(|it| reader.visit_item(it)));
        });
    }

    fn visit_block(&mut self, block: &'ast Block) {
        let items = block.stmts.iter().filter_map(|statement| match statement {
            Stmt::Item(item) => Some(item),
            _ => None,
        });
        let items: Vec<&Item> = items.collect();
        self.in_block(&items, |reader| visit::visit_block(reader, block));
    }

    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            Meta::List(list) => {
                // `#[unsafe(no_mangle)]`
                if list.path.is_ident("unsafe") {
                    self.note_unsafe(list.path.segments[0].ident.span());
                }
                self.visit_path(&list.path);
                self.read_tokens(&list.tokens, true);
            }
            other => self.visit_meta(other),
        }
    }

    /// The tokens of a macro, and syntax that `syn` does not parse.
    fn visit_token_stream(&mut self, tokens: &'ast TokenStream) {
        self.read_tokens(tokens, false);
    }

    fn visit_expr_unsafe(&mut self, found: &'ast ExprUnsafe) {
        self.note_unsafe(found.unsafe_token.span);
        visit::visit_expr_unsafe(self, found);
    }

    /// Of functions, methods and foreign items.
    fn visit_safety(&mut self, safety: &'ast Safety) {
        if let Safety::Unsafe(token) = safety {
            self.note_unsafe(token.span);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        item.unsafety.iter().for_each(|token| self.note_unsafe(token.span));
        visit::visit_item_impl(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        item.unsafety.iter().for_each(|token| self.note_unsafe(token.span));
        visit::visit_item_trait(self, item);
    }

    fn visit_item_foreign_mod(&mut self, item: &'ast ItemForeignMod) {
        item.unsafety.iter().for_each(|token| self.note_unsafe(token.span));
        visit::visit_item_foreign_mod(self, item);
    }
}
