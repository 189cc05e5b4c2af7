//! Lists which parts of a module depend on each other in a circle.
//!
//! Such circles are allowed inside a module. To split a module, or to add a rule to `INSIDE`, run
//! this first and see what stands in the way:
//!
//! ```text
//! cargo test --test layers -- --ignored --nocapture cycles
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::{FOUND, paths::Reference};

/// Which part names which other part, with the first reference that does so.
type Edges<'a> = BTreeMap<(&'a str, &'a str), &'a Reference>;

#[test]
#[ignore = "prints a list to read, and checks nothing"]
fn cycles_between_the_parts_of_each_module() {
    let parents = FOUND.modules.iter().filter_map(|path| path.split_last());
    let parents: BTreeSet<&[String]> = parents.map(|(_, parent)| parent).collect();
    for parent in parents {
        let edges = edges(parent);
        let pairs = edges.iter().filter(|((from, to), _)| from < to);
        for ((from, to), there) in pairs {
            let Some(back) = edges.get(&(*to, *from)) else { continue };
            let places = [there, back].map(|it| format!("{}:{}", it.file, it.line)).join(", ");
            println!("{}: {from} <-> {to} ({places})", parent.join("::"));
        }
        for circle in circles(&edges) {
            println!("{}: each reaches each: {}", parent.join("::"), circle.join(", "));
        }
    }
}

/// References between the parts of `parent`. A part is a child of `parent` with everything inside
/// it, but without its tests.
fn edges(parent: &[String]) -> Edges<'static> {
    let mut edges = Edges::new();
    for reference in &FOUND.references {
        let part = |path: &'static [String]| path.strip_prefix(parent)?.first().map(String::as_str);
        let is_test = reference.module.iter().any(|name| name == "tests");
        if let (Some(from), Some(to), false) =
            (part(&reference.module), part(&reference.named), is_test)
            && from != to
        {
            edges.entry((from, to)).or_insert(reference);
        }
    }
    edges
}

/// The largest sets of parts in which every part depends on every other, directly or not.
fn circles<'a>(edges: &Edges<'a>) -> BTreeSet<Vec<&'a str>> {
    let mut reach: BTreeSet<(&str, &str)> = edges.keys().copied().collect();
    let parts: BTreeSet<&str> = edges.keys().flat_map(|(from, to)| [*from, *to]).collect();
    for through in &parts {
        for from in &parts {
            for to in &parts {
                if reach.contains(&(*from, *through)) && reach.contains(&(*through, *to)) {
                    reach.insert((*from, *to));
                }
            }
        }
    }
    let circle = |part: &&'a str| {
        let is_with =
            |other: &&&str| reach.contains(&(*part, **other)) && reach.contains(&(**other, *part));
        parts.iter().filter(is_with).copied().collect::<Vec<_>>()
    };
    parts.iter().map(circle).filter(|circle| circle.len() > 1).collect()
}
