//! Looks up rows that are new to the ledger at the API, in addition to the plan: whether their customers already
//! exist.
//!
//! The lookups are those of `verify`. Fields are compared by their fingerprints, as an import compares the fields of an
//! existing customer. Records nothing.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{NewRow, Plan};
use crate::{
    customer::FieldCounts,
    error::Error,
    ledger::Forecast,
    run::{Chunks, EndReason, Limits, Signal},
    sender::{Lookup, Sender},
    source::Chunk,
    verify::{Choice, LookupCaller, look_up},
};

/// The result of the lookups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Rows whose customer does not exist.
    pub new: u64,
    /// Rows whose customer exists with the same fields.
    pub same: u64,
    /// Rows whose customer exists with other fields.
    pub different: u64,
    /// Number of rows in which each field differs.
    pub fields: FieldCounts,
    /// Rows whose lookup has used up its attempts.
    pub unanswered: u64,
}

impl Asked {
    /// Rows whose customer exists.
    pub fn existing(&self) -> u64 {
        self.same + self.different
    }

    /// Rows with an answer.
    pub fn answered(&self) -> u64 {
        self.new + self.existing()
    }

    /// Rows whose lookup has ended.
    pub fn looked_up(&self) -> u64 {
        self.answered() + self.unanswered
    }

    fn add(&mut self, row: &NewRow, result: &Lookup) {
        match result {
            Lookup::Found { facts, .. } => {
                let fields = row.fingerprint.differing(row.fingerprint.at_api(*facts, true));
                self.fields.add(fields);
                if fields.is_empty() { self.same += 1 } else { self.different += 1 }
            }
            Lookup::Missing => self.new += 1,
            Lookup::Unanswered => self.unanswered += 1,
            Lookup::Ended | Lookup::Halted(_) => {}
        }
    }
}

/// The share of all rows, estimated from a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The share among the rows looked up.
    pub share: f64,
    /// Lower bound of the interval that contains the share of all rows with 95 % confidence.
    pub low: f64,
    /// Upper bound of the interval.
    pub high: f64,
}

impl Share {
    /// Estimates the share in `all` rows from `count` of `answered` rows, which were chosen at random; none without
    /// an answer.
    ///
    /// The interval is Wilson's, with the sample size corrected for a finite population. It never excludes what is
    /// certain: `count` rows have the property, and `answered - count` do not.
    pub fn of(count: u64, answered: u64, all: u64) -> Option<Share> {
        const Z: f64 = 1.959_964;
        if answered == 0 {
            return None;
        }
        let (count, n, all) = (count as f64, answered as f64, all.max(answered) as f64);
        let share = count / n;
        if answered as f64 >= all {
            return Some(Share { share, low: share, high: share });
        }
        let size = n * (all - 1.0) / (all - n);
        let (z, denominator) = (Z * Z / size, 1.0 + Z * Z / size);
        let center = (share + z / 2.0) / denominator;
        let half = (share * (1.0 - share) * z + z * z / 4.0).sqrt() / denominator;
        let (least, most) = (count / all, (count + all - n) / all);
        Some(Share { share, low: (center - half).max(least), high: (center + half).min(most) })
    }
}

/// The options of the lookups.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The limits of the run.
    pub limits: Limits,
    /// Which rows that are new to the ledger are looked up.
    pub choice: Choice,
}

struct Asking<'a> {
    forecast: &'a mut Forecast,
    plan: Plan,
    asked: Asked,
    show: &'a mut dyn FnMut(&Plan, &Asked),
}

/// Plans every row of the source and looks up those that are new to the ledger, until the source ends, the user ends
/// the command, or it stops by itself. `show` is called at each tick.
///
/// # Errors
/// If the ledger cannot be read, or a bug ended a lookup's task.
pub async fn plan_and_ask(
    forecast: &mut Forecast,
    source: Chunks,
    sender: &Arc<Sender>,
    options: Options,
    signals: &mut mpsc::Receiver<Signal>,
    show: &mut dyn FnMut(&Plan, &Asked),
) -> Result<(EndReason, Plan, Asked), Error> {
    let mut asking = Asking { forecast, plan: Plan::default(), asked: Asked::default(), show };
    let Options { limits, choice } = options;
    let reason = look_up(&mut asking, source, sender, limits, choice, signals).await?;
    Ok((reason, asking.plan, asking.asked))
}

impl LookupCaller for Asking<'_> {
    type Row = NewRow;

    async fn on_chunk(&mut self, chunk: Chunk, offer: &mut dyn FnMut(NewRow)) -> Result<(), Error> {
        self.plan.add(chunk, self.forecast, offer).await
    }

    fn on_result(&mut self, row: NewRow, result: Lookup) {
        self.asked.add(&row, &result);
    }

    fn on_source_read(&mut self) {
        self.plan.is_whole = true;
    }

    fn show(&mut self) {
        (self.show)(&self.plan, &self.asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(count: u64, answered: u64, all: u64) -> (u32, u32, u32) {
        let Share { share, low, high } = Share::of(count, answered, all).unwrap();
        let thousandths = |share: f64| (share * 1000.0).round() as u32;
        (thousandths(share), thousandths(low), thousandths(high))
    }

    /// Compares with published values of Wilson's interval, for a population much larger than the sample.
    #[test]
    fn a_share_has_an_interval() {
        const LARGE: u64 = 1 << 40;
        assert_eq!(interval(5, 10, LARGE), (500, 237, 763));
        assert_eq!(interval(0, 10, LARGE), (0, 0, 278));
        assert_eq!(interval(10, 10, LARGE), (1000, 722, 1000));
        assert_eq!(interval(81, 263, LARGE), (308, 255, 366));
        assert_eq!(Share::of(0, 0, 10), None);
    }

    #[test]
    fn the_nearer_all_rows_are_asked_the_narrower_it_is() {
        assert_eq!(interval(5, 10, 10), (500, 500, 500));
        let (_, low, high) = interval(5, 10, 12);
        assert!(
            low >= 417 && high <= 583,
            "five of twelve are known to be there, and five not: {low} {high}"
        );
        assert!(interval(500, 1000, 2000).1 > interval(500, 1000, 200_000).1);
    }
}
