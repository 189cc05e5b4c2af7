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

    /// As many, drawn from these.
    fn resample(&self, random: &mut Random) -> Self {
        Self(self.0.iter().filter_map(|_| self.0.get(random.below(self.0.len())).copied()).collect())
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
    /// Our median by Go's.
    pub(crate) fn ratio(&self) -> f64 {
        self.ours.median() / self.go.median()
    }

    /// Where the ratio is in 95 of 100 cases, by the bootstrap: the samples are drawn anew from the
    /// samples, many times. What is told twice from the same samples is the same.
    pub(crate) fn ratio_interval(&self) -> (f64, f64) {
        const DRAWS: usize = 1000;
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut draw = || Self { ours: self.ours.resample(&mut random), go: self.go.resample(&mut random) }.ratio();
        let mut ratios: Vec<f64> = (0..DRAWS).map(|_| draw()).collect();
        ratios.sort_by(f64::total_cmp);
        (ratios[DRAWS * 25 / 1000], ratios[DRAWS * 975 / 1000])
    }

    pub(crate) fn side(&mut self, side: crate::place::Side) -> &mut Samples {
        match side {
            crate::place::Side::Ours => &mut self.ours,
            crate::place::Side::Go => &mut self.go,
        }
    }
}

/// Marsaglia's xorshift: enough to draw samples, and the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        for (left, shift) in [(true, 13), (false, 7), (true, 17)] {
            self.0 ^= if left { self.0 << shift } else { self.0 >> shift };
        }
        usize::try_from(self.0 >> 33).map_or(0, |number| number % end)
    }
}
