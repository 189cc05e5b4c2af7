//! The output of `lookout capabilities`.

use serde::Serialize;

use super::table::align_columns;
use crate::{
    cli::{args::PageFormat, output::Style},
    client::json::{self, Capability},
    model::printable,
};

/// The outermost object of the JSON output.
#[derive(Serialize)]
struct JsonPage<'a> {
    categories: &'a [Capability],
}

/// Formats what can be observed: one row per category of events, in the order of `categories`.
pub(in crate::cli) fn page(categories: &[Capability], format: PageFormat, style: Style) -> String {
    match format {
        PageFormat::Json => json::to_line(&JsonPage { categories }) + "\n",
        PageFormat::Table if style.is_quiet => categories
            .iter()
            .map(|one| printable::safe_text(one.category.as_bytes()) + "\n")
            .collect(),
        PageFormat::Table => {
            let rows: Vec<_> = categories
                .iter()
                .map(|one| {
                    [&one.category, &one.support, &one.backend, &one.reason]
                        .map(|cell| printable::safe_text(cell.as_bytes()))
                        .to_vec()
                })
                .collect();
            align_columns(&["CATEGORY", "SUPPORT", "BACKEND", "REASON"], &rows, style)
        }
    }
}

/// Combines the capabilities of several shims. Of each category of events it takes the lowest
/// support, because only the lowest holds for all containers of the node.
pub(in crate::cli) fn lowest_support(answers: &[Vec<Capability>]) -> Vec<Capability> {
    let rank = |support: &str| match support {
        "supported" => 2,
        "partial" => 1,
        _ => 0,
    };
    let mut least: Vec<Capability> = Vec::new();
    for capability in answers.iter().flatten() {
        match least.iter_mut().find(|known| known.category == capability.category) {
            Some(known) if rank(&capability.support) < rank(&known.support) => {
                *known = capability.clone()
            }
            Some(_) => {}
            None => least.push(capability.clone()),
        }
    }
    least
}
