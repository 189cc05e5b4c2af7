//! Selects and sorts the rows of a list: `--filter` and `--sort`.

use std::cmp::Ordering;

use serde::Serialize;
use serde_json::Value;

#[cfg(feature = "expressions")]
use super::expression::Expression;
use super::{
    args::{FieldPath, ListOptions},
    exit::Failure,
};

/// Keeps the rows that meet the condition of the options, in the order that the options ask for.
/// `object` is the JSON form of a row.
pub(super) fn select_and_sort<T, O: Serialize>(
    rows: Vec<T>,
    options: &ListOptions,
    object: impl Fn(&T) -> O,
) -> Result<Vec<T>, Failure> {
    #[cfg(feature = "expressions")]
    let condition = options.filter.as_deref().map(Expression::parse).transpose();
    #[cfg(feature = "expressions")]
    let condition = condition.map_err(Failure::Invalid)?;
    let sort = options.sort.as_deref().map(SortKey::parse).transpose().map_err(Failure::Invalid)?;
    let mut rows: Vec<(Value, T)> = rows
        .into_iter()
        .map(|row| (serde_json::to_value(object(&row)).unwrap_or_default(), row))
        .collect();
    #[cfg(feature = "expressions")]
    rows.retain(|(object, _)| condition.as_ref().is_none_or(|condition| condition.matches(object)));
    if let Some(key) = sort {
        rows.sort_by(|(a, _), (b, _)| key.compare(a, b));
    }
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// A field by which rows are sorted.
struct SortKey {
    path: FieldPath,
    is_downwards: bool,
}

impl SortKey {
    fn parse(text: &str) -> Result<Self, String> {
        let (is_downwards, path) = match text.strip_prefix('-') {
            Some(path) => (true, path),
            None => (false, text),
        };
        Ok(Self { path: path.parse()?, is_downwards })
    }

    /// The order of two rows. A row without the field comes last.
    fn compare(&self, a: &Value, b: &Value) -> Ordering {
        match (self.path.of(a), self.path.of(b)) {
            (Some(a), Some(b)) if self.is_downwards => compare_values(b, a),
            (Some(a), Some(b)) => compare_values(a, b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        }
    }
}

fn compare_values(a: &Value, b: &Value) -> Ordering {
    match (a.as_f64(), b.as_f64(), a.as_str(), b.as_str()) {
        (Some(a), Some(b), _, _) => a.total_cmp(&b),
        (_, _, Some(a), Some(b)) => a.cmp(b),
        // A list is compared by its text, so that equal ones are together.
        _ => a.to_string().cmp(&b.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sorted(field: &str) -> Vec<i64> {
        let options = ListOptions {
            #[cfg(feature = "expressions")]
            filter: None,
            sort: Some(field.to_owned()),
            output: super::super::args::Format::Table,
        };
        let rows = vec![
            json!({"n": 1, "port": {"number": 8080}, "name": "b"}),
            json!({"n": 2, "port": {"number": 80}, "name": "c"}),
            json!({"n": 3, "name": "a"}),
        ];
        let rows = select_and_sort(rows, &options, Clone::clone).unwrap();
        rows.iter().map(|row| row["n"].as_i64().unwrap()).collect()
    }

    /// Check numbers, texts, both directions, and rows without the field.
    #[test]
    fn rows_are_sorted_by_a_field() {
        assert_eq!(sorted(".port.number"), [2, 1, 3]);
        assert_eq!(sorted("-.port.number"), [1, 2, 3]);
        assert_eq!(sorted("name"), [3, 1, 2]);
        assert_eq!(sorted(".absent"), [1, 2, 3]);
    }
}
