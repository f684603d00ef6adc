//! The samples of a run over time, from its clock and counters to the ledger.
//!
//! The ledger's `series`, which is pure, decides what a sample is and how many there are. Samples are written with
//! commits that are made anyway; they get a commit of their own only while nothing else happens.

use tokio::time::Instant;

use crate::{
    ledger::{Ledger, Series, Standing, Tally},
    sender::Sender,
};

/// The samples of a run.
pub(super) struct Timeline {
    began: Instant,
    series: Series,
}

impl Timeline {
    pub(super) fn new() -> Timeline {
        Timeline { began: Instant::now(), series: Series::default() }
    }

    /// Takes a sample if one is due.
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

    /// Whether samples have waited so long that they need a commit of their own.
    pub(super) fn is_overdue(&self) -> bool {
        self.series.is_overdue()
    }

    /// Gives the ledger the samples that it does not have, to be written with its next commit.
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
