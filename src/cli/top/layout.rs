//! Which lines of the screen show what.

/// What is below the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    None,
    /// The processes that have ended last.
    Exits,
    /// All that is known of the selected process.
    Details,
}

/// The lines of the screen, from the top: a summary, the titles, `rows`, `pane` with its title, the
/// status, the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) rows: u16,
    /// With its title; 0 without a pane.
    pub(super) pane: u16,
}

/// The lines beside the rows and the pane.
const FIXED: u16 = 4;
/// The fewest rows that a pane leaves.
const ROWS_LEAST: u16 = 5;
/// The exits that are shown, with the title.
const EXITS: u16 = 6;

impl Layout {
    pub(super) fn of(height: u16, pane: Pane) -> Self {
        let free = height.saturating_sub(FIXED);
        let most = free.saturating_sub(ROWS_LEAST);
        let pane = match pane {
            Pane::None => 0,
            Pane::Exits => EXITS.min(most),
            Pane::Details => (free * 3 / 5).min(most),
        };
        // A title alone is of no use.
        let pane = if pane < 2 { 0 } else { pane };
        Self { rows: free - pane, pane }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that the parts fill any screen, also one without a line for them.
    #[test]
    fn the_lines_add_up() {
        for height in 0..100 {
            for pane in [Pane::None, Pane::Exits, Pane::Details] {
                let layout = Layout::of(height, pane);
                assert_eq!(layout.rows + layout.pane, height.saturating_sub(FIXED), "{height}");
            }
        }
        assert_eq!(Layout::of(24, Pane::Exits), Layout { rows: 14, pane: 6 });
    }
}
