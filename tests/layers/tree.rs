//! Reads the module tree as the compiler does.
//!
//! Starts at `src/lib.rs` and at each program in `src/bin`, and follows every `mod` declaration
//! under any `cfg`: the rules must hold on every platform, not only on the one that runs the test.
//! A file that no declaration reaches would not be checked, so it is a defect.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use proc_macro2::{Delimiter, Ident, TokenTree};
use syn::{
    Attribute, Expr, ExprLit, File, Item, ItemMod, Lit, Meta, Token, punctuated::Punctuated,
};

/// The path of a module from its crate's root, which is empty. Programs are below `bin`.
pub(crate) type ModulePath = Vec<String>;

/// File names, relative to the package, and their text. A map, so that a test can plant a tree in
/// memory.
pub(crate) type Source = BTreeMap<String, String>;

/// One module with its own items. Modules declared inside it are separate entries.
pub(crate) struct Module {
    pub(crate) path: ModulePath,
    /// How many of the first names of `path` are the root of its crate: 0, or 2 for `bin` and the
    /// program's name.
    pub(crate) root: usize,
    pub(crate) file: String,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) items: Vec<Item>,
}

/// A problem in the source because of which the test cannot check all of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Defect {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) what: String,
}

/// All modules of all crates in `src`.
#[derive(Default)]
pub(crate) struct Tree {
    pub(crate) modules: Vec<Module>,
    pub(crate) defects: Vec<Defect>,
    reached: BTreeSet<String>,
}

/// Reads every `.rs` file below `directory` of the package.
pub(crate) fn read(package: &Path, directory: &str) -> Source {
    let mut source = Source::new();
    for entry in fs::read_dir(package.join(directory)).expect("the package has this directory") {
        let entry = entry.expect("a directory can be listed");
        let name = format!("{directory}/{}", entry.file_name().into_string().expect("UTF-8"));
        if entry.path().is_dir() {
            source.extend(read(package, &name));
        } else if is_rust(&name) {
            source.insert(name, fs::read_to_string(entry.path()).expect("source is UTF-8"));
        }
    }
    source
}

impl Tree {
    /// Follows the declarations from each crate's root.
    pub(crate) fn of(source: &Source) -> Self {
        let mut tree = Self::default();
        for file in source.keys() {
            if let Some(path) = root_of(file) {
                let place = Place { root: path.len(), path, file, children: parent(file) };
                tree.read_file(source, &place);
            }
        }
        let unreached = source.keys().filter(|file| !tree.reached.contains(*file));
        let unreached: Vec<Defect> = unreached
            .map(|file| defect(file, 1, "no `mod` declaration reaches this file"))
            .collect();
        tree.defects.extend(unreached);
        tree
    }

    fn read_file(&mut self, source: &Source, place: &Place<'_>) {
        self.reached.insert(place.file.to_owned());
        match syn::parse_file(&source[place.file]) {
            Ok(File { attrs, items, .. }) => {
                self.read_module(source, place, parent(place.file), attrs, items);
            }
            Err(error) => {
                let line = error.span().start().line;
                self.defects.push(defect(place.file, line, format!("cannot be parsed: {error}")));
            }
        }
    }

    /// Reads one module. `base` is the directory to which a `#[path]` on a declaration in it is
    /// relative.
    fn read_module(
        &mut self,
        source: &Source,
        place: &Place<'_>,
        base: &str,
        attributes: Vec<Attribute>,
        items: Vec<Item>,
    ) {
        let (declarations, items): (Vec<Item>, Vec<Item>) =
            unfolded(items).into_iter().partition(|item| matches!(item, Item::Mod(_)));
        let Place { path, root, file, .. } = place;
        let file = (*file).to_owned();
        self.modules.push(Module { path: path.clone(), root: *root, file, attributes, items });
        for declaration in declarations {
            let Item::Mod(declaration) = declaration else { unreachable!("partitioned above") };
            self.read_declaration(source, place, base, declaration);
        }
    }

    fn read_declaration(
        &mut self,
        source: &Source,
        place: &Place<'_>,
        base: &str,
        declaration: ItemMod,
    ) {
        let name = name_of(&declaration.ident);
        let line = declaration.ident.span().start().line;
        if declaration.attrs.iter().any(|attribute| attribute.path().is_ident("macro_use")) {
            let what = "`#[macro_use]` hides who uses its macros: give them a path";
            self.defects.push(defect(place.file, line, what));
        }
        let path: ModulePath = child(&place.path, &name);
        let named: Vec<String> =
            declaration.attrs.iter().flat_map(|it| files_in(&it.meta)).collect();
        let named: Vec<String> = named.iter().map(|file| join(base, file)).collect();
        let usual = join(place.children, &name);
        let root = place.root;
        if let Some((_, items)) = declaration.content {
            let children = named.first().unwrap_or(&usual);
            let inside = Place { path, root, file: place.file, children };
            return self.read_module(source, &inside, children, declaration.attrs, items);
        }
        let is_fixed = declaration.attrs.iter().any(|attribute| attribute.path().is_ident("path"));
        let (beside, below) = (format!("{usual}.rs"), format!("{usual}/mod.rs"));
        // The compiler expects the children of `a.rs` in `a/`, but the children of `a/mod.rs`, and
        // of a file named by an attribute, next to that file.
        let usual = [(&beside, usual.as_str()), (&below, usual.as_str())];
        let usual = usual.into_iter().filter(|_| !is_fixed);
        let mut is_found = false;
        for (file, children) in named.iter().map(|file| (file, parent(file))).chain(usual) {
            if source.contains_key(file) {
                is_found = true;
                self.read_file(source, &Place { path: path.clone(), root, file, children });
            }
        }
        if !is_found {
            self.defects.push(defect(place.file, line, format!("`mod {name}` has no file")));
        }
    }
}

/// The module that is being read.
struct Place<'a> {
    path: ModulePath,
    root: usize,
    file: &'a str,
    /// The directory of the files of this module's children.
    children: &'a str,
}

/// An identifier as a name: `r#mod` is `mod`.
pub(crate) fn name_of(identifier: &Ident) -> String {
    let name = identifier.to_string();
    name.strip_prefix("r#").map(str::to_owned).unwrap_or(name)
}

pub(crate) fn child(module: &[String], name: &str) -> ModulePath {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

/// Replaces `cfg_if!` and `cfg_select!` by the items of all their branches, whichever the compiler
/// would select.
fn unfolded(items: Vec<Item>) -> Vec<Item> {
    let unfold = |item| {
        let Item::Macro(found) = &item else { return vec![item] };
        let name = found.mac.path.segments.last().map(|segment| segment.ident.to_string());
        if !name.is_some_and(|name| name == "cfg_if" || name == "cfg_select") {
            return vec![item];
        }
        let arms = found.mac.tokens.clone().into_iter().filter_map(|token| match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                Some(syn::parse2::<File>(group.stream()))
            }
            _ => None,
        });
        match arms.collect::<syn::Result<Vec<File>>>() {
            Ok(arms) => unfolded(arms.into_iter().flat_map(|arm| arm.items).collect()),
            // It holds no items but, for example, an expression: its tokens are read like those of
            // any macro.
            Err(_) => vec![item],
        }
    };
    items.into_iter().flat_map(unfold).collect()
}

/// The files that `path = "…"` names. With `cfg_attr` a module has one file here, another there,
/// and its usual file where no condition holds: all of them are read.
fn files_in(meta: &Meta) -> Vec<String> {
    match meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(file), .. }) => vec![file.value()],
            _ => Vec::new(),
        },
        Meta::List(list) if list.path.is_ident("cfg_attr") => {
            let metas = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
            metas.into_iter().flatten().skip(1).flat_map(|meta| files_in(&meta)).collect()
        }
        _ => Vec::new(),
    }
}

/// The module path of the crate with this file as its root; `None` if the file is not a root.
fn root_of(file: &str) -> Option<ModulePath> {
    if file == "src/lib.rs" {
        return Some(ModulePath::new());
    }
    let program = file.strip_prefix("src/bin/")?;
    let name = program.strip_suffix("/main.rs").or_else(|| program.strip_suffix(".rs"))?;
    (!name.contains('/')).then(|| vec!["bin".to_owned(), name.to_owned()])
}

fn is_rust(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension == "rs")
}

fn defect(file: &str, line: usize, what: impl Into<String>) -> Defect {
    Defect { file: file.to_owned(), line, what: what.into() }
}

fn parent(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// Joins paths as text and resolves `..`, because the files may exist in memory only.
fn join(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = directory.split('/').collect();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
