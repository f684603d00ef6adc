//! Which refusals have nothing to do with the rate.
//!
//! A server may say "too many" to one request in a hundred whatever the rate is, for instance
//! because one node of many is in trouble. Taken for a limit, that lowers the rate until hardly a refusal is met, and
//! so to a few requests a second.
//!
//! A limit that was found refuses what is tried above it, and hardly ever a rate that is held. So where several
//! rates were refused while they were held, each lower than the one before, the first of them is tried again, and the
//! share that was refused is believed in: refusals count as a limit's only where they come much closer together. A
//! wrong belief would let many be refused. So no large share is believed, a belief that fails at first is given up
//! with the third refusal, and none lasts for long.
//!
//! Where the server asks for a pause with each refusal this is not told: a limit that lets much through after a pause
//! refuses held rates too.
//!
//! Pure: time comes in as seconds of the run, and nothing here waits.

/// So many more rates were refused while they were held than above that.
const LOWERED: usize = 4;

/// No more cycles say anything together.
const CYCLES: usize = 32;

/// No larger share is believed: a limit that fell by much refuses more until it is found again.
const MOST: f64 = 0.15;

/// Seconds for which a belief lasts.
const BELIEVED: f64 = 300.0;

/// Closer together than by chance: a running sum (CUSUM) of refusals, from which each request takes so many
/// times the share believed in, reaches this. By chance alone one refusal in several hundred gets it there.
const TAKEN_OFF: f64 = 2.0;
const CLOSE: f64 = 6.0;

/// The same for a belief that is new. It is new until so many refusals were to be expected.
const CLOSE_NEW: f64 = 2.5;
const NEW: f64 = 3.0;

/// What one run knows about refusals by chance.
#[derive(Default)]
pub(super) struct Chance {
    /// Since held rates were refused, and how many more of those there are.
    cycles: Vec<Cycle>,
    lowered: usize,
    belief: Option<Belief>,
}

/// What was sent from one refusal to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cycle {
    /// The rate that was refused at its end.
    pub(super) rate: f64,
    /// Whether that was held still, and no higher one tried.
    pub(super) held: bool,
    pub(super) requests: u64,
    /// Of these, at the beginning.
    pub(super) refused: u64,
}

struct Belief {
    share: f64,
    until: f64,
    /// What was let through since.
    requests: u64,
    /// How close together refusals came lately.
    sum: f64,
    told: bool,
}

impl Belief {
    fn is_new(&self) -> bool {
        self.requests as f64 * self.share < NEW
    }
}

impl Chance {
    /// A request was let through.
    pub(super) fn taken(&mut self) {
        if let Some(belief) = &mut self.belief {
            belief.requests += 1;
            belief.sum = (belief.sum - TAKEN_OFF * belief.share).max(0.0);
        }
    }

    /// A request was refused: whether that was by chance, as far as is known.
    pub(super) fn is_one(&mut self, now: f64) -> bool {
        self.belief = self.belief.take().filter(|belief| now < belief.until);
        let Some(belief) = &mut self.belief else {
            return false;
        };
        belief.sum += 1.0;
        let is_new = belief.is_new();
        if belief.sum < if is_new { CLOSE_NEW } else { CLOSE } {
            return true;
        }
        belief.sum = 0.0;
        self.belief = self.belief.take().filter(|_| !is_new);
        false
    }

    /// A rate was refused. Where that may be by chance: the highest that was given up because of it.
    pub(super) fn broke(&mut self, cycle: Cycle, now: f64) -> Option<f64> {
        self.lowered = if cycle.held { self.lowered + 1 } else { self.lowered.saturating_sub(1) };
        if self.lowered == 0 || self.cycles.len() == CYCLES {
            self.cycles.clear();
            self.lowered = 0;
            return None;
        }
        self.cycles.push(cycle);
        if self.lowered < LOWERED {
            return None;
        }
        let share = share(&self.cycles);
        if share > MOST {
            return None;
        }
        let held = self.cycles.iter().filter(|cycle| cycle.held);
        let highest = held.map(|cycle| cycle.rate).fold(cycle.rate, f64::max);
        self.cycles.clear();
        self.lowered = 0;
        self.belief = Some(Belief { share, until: now + BELIEVED, requests: 0, sum: 0.0, told: false });
        Some(highest)
    }

    /// The share of requests that is refused by chance, once it is sure and was not told yet.
    pub(super) fn news(&mut self) -> Option<f64> {
        let belief = self.belief.as_mut().filter(|belief| !belief.told && !belief.is_new())?;
        belief.told = true;
        Some(belief.share)
    }
}

fn share(cycles: &[Cycle]) -> f64 {
    let refused: u64 = cycles.iter().map(|cycle| cycle.refused).sum();
    let requests: u64 = cycles.iter().map(|cycle| cycle.requests).sum();
    refused as f64 / requests.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rate of one in fifty, or another share, refused while it is held.
    fn cycle(rate: f64, share: f64) -> Cycle {
        Cycle { rate, held: true, requests: (1.0 / share) as u64, refused: 1 }
    }

    fn believing(share: f64) -> Chance {
        let mut chance = Chance::default();
        let answers = [100.0, 80.0, 70.0, 60.0].map(|rate| chance.broke(cycle(rate, share), 0.0));
        assert_eq!(answers, [None, None, None, Some(100.0)]);
        chance
    }

    /// So many let through between two that are refused.
    fn refuse(chance: &mut Chance, every: u64, times: u32) -> Vec<bool> {
        let mut one = |_| {
            (0..every).for_each(|_| chance.taken());
            chance.is_one(1.0)
        };
        (0..times).map(&mut one).collect()
    }

    #[test]
    fn the_share_that_is_believed_is_no_limits_and_more_than_that_is() {
        let mut chance = believing(0.02);
        assert!(refuse(&mut chance, 49, 500).iter().all(|by_chance| *by_chance));
        assert_eq!(chance.news(), Some(0.02));
        assert_eq!(chance.news(), None);
        assert_eq!(refuse(&mut chance, 0, 8).iter().filter(|by_chance| !**by_chance).count(), 1);
        assert!(chance.belief.is_some(), "a limit that is met does not make it wrong");
    }

    #[test]
    fn a_belief_that_fails_at_first_is_given_up_with_the_third_refusal() {
        let mut chance = believing(0.02);
        assert_eq!(refuse(&mut chance, 2, 3), [true, true, false]);
        assert!(chance.belief.is_none());
        assert_eq!(refuse(&mut chance, 49, 1), [false]);
        assert_eq!(chance.news(), None);
    }

    #[test]
    fn a_belief_ends() {
        let mut chance = believing(0.02);
        assert!(chance.is_one(BELIEVED - 1.0));
        assert!(!chance.is_one(BELIEVED));
    }

    #[test]
    fn limits_are_no_chance() {
        // It fell by much.
        let mut chance = Chance::default();
        for rate in [1000.0, 700.0, 500.0, 350.0, 250.0, 180.0] {
            assert_eq!(chance.broke(cycle(rate, 0.3), 0.0), None);
        }
        // What was found is tried above now and then, and was held wrongly now and then.
        let mut chance = Chance::default();
        for number in 0..100 {
            let cycle = Cycle { held: number % 2 == 0, ..cycle(500.0, 0.006) };
            assert_eq!(chance.broke(cycle, 0.0), None);
        }
    }
}
