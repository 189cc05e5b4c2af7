//! Capabilities as text: the same answers give the same bytes.

use super::Capabilities;

impl Capabilities {
    /// Category, support, backend and reason of each, in order.
    #[must_use]
    pub fn to_table_rows(&self) -> Vec<[String; 4]> {
        let row = |it: &crate::model::Capability| {
            [
                it.category.as_str().into(),
                it.support.as_str().into(),
                it.backend.clone(),
                it.reason.clone(),
            ]
        };
        self.categories().iter().map(row).collect()
    }

    /// A line for each category, in columns, each ended by a newline; no trailing spaces. Reasons
    /// are the kernel's and our own words, never a container's.
    #[must_use]
    pub fn render_summary(&self) -> String {
        let rows = self.to_table_rows();
        let width =
            |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let [category, support, backend] = [width(0), width(1), width(2)];
        let line = |row: &[String; 4]| {
            let line = format!(
                "{:category$}  {:support$}  {:backend$}  {}",
                row[0], row[1], row[2], row[3]
            );
            format!("{}\n", line.trim_end())
        };
        rows.iter().map(line).collect()
    }
}
