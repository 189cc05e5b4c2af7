//! Capabilities as text. Equal capabilities give equal bytes.

use super::Capabilities;

impl Capabilities {
    /// One row for each category, in order: category, support, backend, reason.
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

    /// One line for each category, in aligned columns. Each line ends with a newline and has no
    /// trailing spaces. Reasons come from the kernel and from this program, never from a
    /// container, so they are not escaped.
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
