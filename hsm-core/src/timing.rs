//! Whether the time of a function tells its input: two classes of inputs, tried in random order, and Welch's t over what they took.
//!
//! Measurements, not tests: `make timing` runs them and shows |t|. Above 4.5 in several runs the times differ; below, this many runs did
//! not show a difference, which is all that can be said.

use std::time::Duration;

/// A small generator (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Of all runs the slowest tenth is left out: what was interrupted tells nothing.
const KEPT: f64 = 0.9;

/// Compares the times of two classes; `run` gives the time of one run, with an input of the second class if it is told so.
pub(crate) fn compare(what: &str, runs: usize, mut run: impl FnMut(bool) -> Duration) {
    let mut dice = Dice(runs as u64);
    let mut times = [Vec::with_capacity(runs), Vec::with_capacity(runs)];
    for turn in 0..runs + runs / 20 {
        let second = dice.roll().is_multiple_of(2);
        let took = run(second).as_nanos() as f64;
        // The first runs warm caches up.
        if turn >= runs / 20 {
            times[usize::from(second)].push(took);
        }
    }
    let mut all: Vec<f64> = times.concat();
    all.sort_by(f64::total_cmp);
    let limit = all[(all.len() as f64 * KEPT) as usize];
    let kept = times.map(|class| class.into_iter().filter(|time| *time <= limit).collect::<Vec<f64>>());
    let [first, second] = kept.each_ref().map(|class| Moments::of(class));
    let spread = (first.variance / first.count + second.variance / second.count).sqrt();
    let t = if spread > 0.0 { (first.mean - second.mean) / spread } else { 0.0 };
    eprintln!(
        "TABLE {what}: |t| = {:.1} of {runs} runs, {:.0} and {:.0} ns on the average",
        t.abs(),
        first.mean,
        second.mean
    );
}

struct Moments {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Moments {
    fn of(class: &[f64]) -> Self {
        let count = class.len() as f64;
        let mean = class.iter().sum::<f64>() / count;
        let variance = class.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Moments { count, mean, variance }
    }
}
