//! Keeps the documentation true: the files and headings that it names exist.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

/// Check that each path in backquotes in the README and in `docs/` exists. Where a path has a list
/// in braces, each name in the list counts.
#[test]
fn every_file_that_the_docs_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = pages(root);
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

/// Check that each relative link leads to a file, and to a heading of it if it names one.
#[test]
fn every_link_leads_to_a_heading() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for page in pages(root) {
        let text = fs::read_to_string(&page).expect("UTF-8");
        // Without code, in which a regular expression may look like a link.
        let text: String = text.split('`').step_by(2).collect();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        for (link, _) in links.filter(|(link, _)| !link.starts_with("http")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let folder = page.parent().expect("a file is in a folder");
            let target = if file.is_empty() { page.clone() } else { folder.join(file) };
            assert!(target.exists(), "{} links to {link}, which does not exist", page.display());
            let is_there = heading.is_empty() || headings(&target).contains(heading);
            assert!(is_there, "{} links to {link}: no such heading", page.display());
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} links");
}

/// The headings of a page in the form in which links name them.
fn headings(page: &Path) -> HashSet<String> {
    let text = fs::read_to_string(page).expect("UTF-8");
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let name = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
        kept.map(|it| if it == ' ' { '-' } else { it }).collect()
    };
    headings.map(name).collect()
}

/// The pages that people read.
fn pages(root: &Path) -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
        .map(|name| root.join(name))
        .into();
    for folder in ["docs", "docs/design", "docs/reference"] {
        let entries = fs::read_dir(root.join(folder)).expect("a directory");
        pages.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    pages.retain(|page| page.extension().is_some_and(|is| is == "md"));
    pages
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

/// Where the list of files begins in the architecture page. It goes on to the end of the page.
const LIST: &str = "\n## Every file\n";

/// Check that the architecture page lists every source file with the first sentence of its module
/// documentation. With `UPDATE_DOCS=1` in the environment the list is written anew.
#[test]
fn the_list_of_files_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = root.join("docs/architecture.md");
    let text = fs::read_to_string(&page).expect("UTF-8");
    let (before, _) = text.split_once(LIST).expect("the page has the list");
    let current = format!("{before}{LIST}{}", list(root));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&page, &current).expect("a writable page");
    } else {
        assert!(
            text == current,
            "the list of files in docs/architecture.md is not current: run\n\
             UPDATE_DOCS=1 cargo test --test docs"
        );
    }
}

fn list(root: &Path) -> String {
    let mut files = Vec::new();
    for top in ["src", "bpf"] {
        collect(&root.join(top), &mut files);
    }
    files.sort();
    let mut list = String::from(
        "\nThe first sentence of each file's own documentation. Tests are not listed.\n\n\
         | file | purpose |\n|---|---|\n",
    );
    for file in files {
        let text = fs::read_to_string(&file).expect("UTF-8");
        let name = file.strip_prefix(root).expect("below the root").display();
        list.push_str(&format!("| `{name}` | {} |\n", purpose(&text)));
    }
    list
}

fn collect(directory: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests" || stem == "testing");
        if is_test || path.ends_with("snapshots") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|it| it == "rs" || it == "h" || it == "c") {
            files.push(path);
        }
    }
}

/// The first sentence of a file's documentation: its `//!` lines, or the first comment of a C file.
fn purpose(text: &str) -> String {
    let lines = text.lines().skip_while(|line| line.contains("SPDX") || line.is_empty());
    let comment: Vec<&str> = if text.starts_with("//!") {
        lines.take_while(|line| line.starts_with("//!")).map(|line| line[3..].trim()).collect()
    } else {
        let lines = lines.skip_while(|line| !line.starts_with("/*"));
        let mut is_over = false;
        lines
            .take_while(|line| !std::mem::replace(&mut is_over, line.contains("*/")))
            .map(|line| line.trim_matches(|it: char| "/* ".contains(it)))
            .collect()
    };
    let paragraph = comment.split(|line| line.is_empty()).find(|part| !part.is_empty());
    let sentence = paragraph.unwrap_or_default().join(" ");
    let end = sentence.find(". ").unwrap_or(sentence.len());
    sentence[..end].trim_end_matches('.').replace('|', "\\|")
}

/// Check that module files follow one convention: a module with submodules is `x/mod.rs`. Where the
/// tests are its only submodule, it is `x.rs` with `x/tests.rs`.
#[test]
fn a_module_with_submodules_is_a_folder() {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    for file in files {
        let folder = file.with_extension("");
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let mut names = entries.map(|entry| entry.expect("an entry").file_name());
        let others =
            names.find(|name| name != "tests.rs" && name != "tests" && name != "snapshots");
        assert_eq!(others, None, "{} has a folder beside it: move it in", file.display());
    }
}

/// Check that the documentation of each entry point of the library has an example.
#[test]
fn each_entry_point_of_the_library_has_an_example() {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/observe/library");
    for (file, item) in [
        ("detector/mod.rs", "pub struct Detector "),
        ("detector/mod.rs", "    pub fn over("),
        ("port_watcher.rs", "pub struct PortWatcher "),
        ("spawned.rs", "pub struct ObserverConfig "),
    ] {
        let text = fs::read_to_string(library.join(file)).expect("UTF-8");
        let (before, _) = text.split_once(&format!("\n{item}")).expect("the item exists");
        let mut documentation = before.lines().rev().take_while(|line| !line.is_empty());
        assert!(documentation.any(|line| line.trim() == "/// ```"), "{item}has no example");
    }
}
