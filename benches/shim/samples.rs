//! Samples of one quantity, and what a table says of them.

/// Samples in the order they were taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    pub(crate) fn extend(&mut self, samples: impl IntoIterator<Item = f64>) {
        self.0.extend(samples);
    }

    pub(crate) fn all(&self) -> &[f64] {
        &self.0
    }

    /// Between the two in the middle where there are two; not a number where there is none.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    pub(crate) fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    pub(crate) fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }
}

/// The same quantity of both shims.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pair {
    pub(crate) ours: Samples,
    pub(crate) go: Samples,
}

impl Pair {
    pub(crate) fn side(&mut self, side: crate::place::Side) -> &mut Samples {
        match side {
            crate::place::Side::Ours => &mut self.ours,
            crate::place::Side::Go => &mut self.go,
        }
    }
}
