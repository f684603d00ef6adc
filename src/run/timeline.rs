//! The run over time: when to look at it, and when what was seen goes to the ledger.
//!
//! What a sample is and how few of them there are is decided in the ledger's `series`, which is pure; here
//! are the clock and the counters. Samples go along with commits that are made anyway, and get one of
//! their own only where nothing else happens.

use tokio::time::Instant;

use crate::{
    ledger::{Ledger, Series, Standing, Tally},
    sender::Sender,
};

pub(super) struct Timeline {
    began: Instant,
    series: Series,
}

impl Timeline {
    pub(super) fn new() -> Timeline {
        Timeline { began: Instant::now(), series: Series::default() }
    }

    /// Takes a sample if it is time for one.
    pub(super) fn sample(&mut self, tally: Tally, sender: &Sender) {
        let now = self.began.elapsed();
        if self.series.is_due(now) {
            self.series.take(now, standing(tally, sender));
        }
    }

    /// Takes the last sample.
    pub(super) fn end(&mut self, tally: Tally, sender: &Sender) {
        self.series.end(self.began.elapsed(), standing(tally, sender));
    }

    /// Whether a commit has to be made for its sake.
    pub(super) fn is_overdue(&self) -> bool {
        self.series.is_overdue()
    }

    /// Gives the ledger what it does not have.
    pub(super) fn write_to(&mut self, ledger: &mut Ledger) {
        if let Some(samples) = self.series.unwritten() {
            ledger.add_samples(samples);
        }
    }
}

fn standing(tally: Tally, sender: &Sender) -> Standing {
    let throttle = sender.throttle();
    Standing {
        tally,
        figures: sender.figures(),
        latencies: sender.latencies(),
        in_flight: throttle.in_flight() as u64,
        held_rate: throttle.held_rate(),
    }
}
