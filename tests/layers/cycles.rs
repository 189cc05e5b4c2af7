//! Parts of a module do not depend on each other in a circle. A circle makes one thing of them,
//! which cannot be read, tested or moved apart.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    FOUND,
    paths::{Findings, Reference},
};

/// Which part names which other part, with the first reference that does so.
type Edges<'a> = BTreeMap<(&'a str, &'a str), &'a Reference>;

/// Check that there is no circle, at any depth. The message names the first reference of each part
/// to another one of its circle.
#[test]
fn the_parts_of_a_module_do_not_depend_on_each_other_in_a_circle() {
    let found = lines(&FOUND);
    assert!(found.is_empty(), "these depend on each other in a circle:\n{}", found.join("\n"));
}

/// One line for each circle in a source.
pub(crate) fn lines(found: &Findings) -> Vec<String> {
    let parents = found.modules.iter().filter_map(|path| path.split_last());
    let parents: BTreeSet<&[String]> = parents.map(|(_, parent)| parent).collect();
    parents.into_iter().flat_map(|parent| circles_in(found, parent)).collect()
}

/// One line for each circle among the parts of `parent`.
fn circles_in(found: &Findings, parent: &[String]) -> Vec<String> {
    let edges = edges(found, parent);
    let line = |circle: Vec<&str>| {
        let is_inside = |(from, to): &(&str, &str)| circle.contains(from) && circle.contains(to);
        let inside = edges.iter().filter(|(edge, _)| is_inside(edge));
        let places: Vec<String> = inside
            .map(|((from, to), it)| format!("{from} -> {to} {}:{}", it.file, it.line))
            .collect();
        format!("{}: {}", parent.join("::"), places.join(", "))
    };
    circles(&edges).into_iter().map(line).collect()
}

/// References between the parts of `parent`. A part is a child of `parent` with everything inside
/// it, but without its tests.
fn edges<'a>(found: &'a Findings, parent: &[String]) -> Edges<'a> {
    let mut edges = Edges::new();
    for reference in &found.references {
        let part = |path: &'a [String]| path.strip_prefix(parent)?.first().map(String::as_str);
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
