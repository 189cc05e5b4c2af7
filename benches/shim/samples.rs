//! Samples of one quantity, and their statistics.

/// Samples in the order in which they were taken.
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

    /// The samples at these indexes.
    fn at(&self, places: &[usize]) -> Self {
        places.iter().filter_map(|workspace| self.0.get(*workspace).copied()).collect()
    }

    /// The median: the mean of the two middle samples for an even number, NaN without samples.
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

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

/// Samples of one quantity for both shims, or with and without an influence.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pair {
    pub(crate) ours: Samples,
    pub(crate) go: Samples,
    /// Whether samples with the same index were taken one right after the other.
    in_turns: bool,
}

impl Pair {
    pub(crate) fn of(ours: &Samples, go: &Samples) -> Self {
        Self { ours: ours.clone(), go: go.clone(), in_turns: false }
    }

    /// An empty pair for samples that are taken in turns, so that other load of the machine affects
    /// both samples of a round.
    pub(crate) fn in_turns() -> Self {
        Self { in_turns: true, ..Self::default() }
    }

    /// Our median divided by Go's, or the median of the ratios if samples are taken in turns.
    pub(crate) fn ratio(&self) -> f64 {
        if !self.in_turns {
            return self.ours.median() / self.go.median();
        }
        self.ours.0.iter().zip(&self.go.0).map(|(ours, go)| ours / go).collect::<Samples>().median()
    }

    /// Draws as many samples from these, with replacement. Samples of one round stay together.
    fn resample(&self, random: &mut Random) -> Self {
        let mut places = |samples: &Samples| {
            samples.0.iter().map(|_| random.below(samples.0.len())).collect::<Vec<_>>()
        };
        let ours = places(&self.ours);
        let go = if self.in_turns { ours.clone() } else { places(&self.go) };
        Self { ours: self.ours.at(&ours), go: self.go.at(&go), in_turns: self.in_turns }
    }

    /// The interval that contains the ratio in 95 of 100 cases, by bootstrapping: the samples are
    /// redrawn from themselves many times. The same samples always give the same interval.
    pub(crate) fn ratio_interval(&self) -> (f64, f64) {
        const DRAWS: usize = 1000;
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut ratios: Vec<f64> = (0..DRAWS).map(|_| self.resample(&mut random).ratio()).collect();
        ratios.sort_by(f64::total_cmp);
        (ratios[DRAWS * 25 / 1000], ratios[DRAWS * 975 / 1000])
    }

    pub(crate) fn side(&mut self, side: crate::workspace::Side) -> &mut Samples {
        match side {
            crate::workspace::Side::Ours => &mut self.ours,
            crate::workspace::Side::Go => &mut self.go,
        }
    }
}

/// Marsaglia's xorshift: good enough to draw samples, and the same sequence in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        for (left, shift) in [(true, 13), (false, 7), (true, 17)] {
            self.0 ^= if left { self.0 << shift } else { self.0 >> shift };
        }
        usize::try_from(self.0 >> 33).map_or(0, |number| number % end)
    }
}
