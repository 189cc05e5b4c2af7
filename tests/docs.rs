//! Keeps the documentation true: the files that it names exist.

use std::{fs, path::Path};

/// Check that each path in backquotes in the README and in `docs/` exists. Where a path has a list
/// in braces, each name in the list counts.
#[test]
fn every_file_that_the_docs_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    for folder in ["docs", "docs/design"] {
        let entries = fs::read_dir(root.join(folder)).expect("a directory");
        pages.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    let pages = pages.into_iter().filter(|page| page.extension().is_some_and(|is| is == "md"));
    let mut seen = 0;
    for page in pages {
        let text = fs::read_to_string(&page).expect("UTF-8");
        // The odd parts are those between two backquotes.
        for path in text.split('`').skip(1).step_by(2).flat_map(expand) {
            let is_missing = !root.join(&path).exists();
            assert!(!is_missing, "{} names {path}, which does not exist", page.display());
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} paths: are they still in backquotes?");
}

/// The paths that a piece of code stands for; none if it is not a path of this repository.
fn expand(code: &str) -> Vec<String> {
    const TOP: [&str; 7] = ["src/", "bpf/", "tests/", "hack/", "benches/", "proto/", "docs/"];
    let is_path =
        |code: &str| code.chars().all(|it| it.is_alphanumeric() || "/._-{},".contains(it));
    if !TOP.iter().any(|top| code.starts_with(top)) || !is_path(code) {
        return Vec::new();
    }
    match code.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
        Some((before, (list, after))) => {
            list.split(',').map(|name| format!("{before}{name}{after}")).collect()
        }
        None => vec![code.to_owned()],
    }
}
