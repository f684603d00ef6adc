//! How much was accepted lately: the one thing that a rate is chosen by.
//!
//! Counts in slots of a hundredth of a second and keeps no request: its size is the same at any rate.

/// How many requests were accepted lately, by the time at which they left.
pub(super) struct Accepted {
    slots: Vec<(u64, i64)>,
}

const SLOT: f64 = 0.01;

/// Seconds that are remembered.
pub(super) const MEMORY: f64 = 10.0;

impl Default for Accepted {
    fn default() -> Accepted {
        Accepted { slots: vec![(0, 0); (MEMORY / SLOT) as usize + 2] }
    }
}

impl Accepted {
    pub(super) fn add(&mut self, at: f64, count: i64) {
        let number = (at / SLOT) as u64;
        let place = number as usize % self.slots.len();
        let slot = &mut self.slots[place];
        if slot.0 < number {
            *slot = (number, 0);
        }
        if slot.0 == number {
            slot.1 += count;
        }
    }

    /// Of the first and last slot the share that is between.
    pub(super) fn between(&self, from: f64, to: f64) -> f64 {
        let (from, to) = (from.max(0.0) / SLOT, to.max(0.0) / SLOT);
        let numbers = from as u64..=to as u64;
        numbers
            .map(|number| {
                let slot = self.slots[number as usize % self.slots.len()];
                let share = to.min((number + 1) as f64) - from.max(number as f64);
                if slot.0 == number { slot.1 as f64 * share } else { 0.0 }
            })
            .sum()
    }
}
