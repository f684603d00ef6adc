//! How a rate that was held is left upward, and what the time from one pause to the next refusal tells.
//!
//! Pure numbers: which climb is taken when is the pace's to say.

/// Seconds in which a climb doubles the rate.
const CLIMB: f64 = 2.0;

/// Two spells whose length differs by less say little of what flows into a bucket.
const SPELLS_DIFFER: f64 = 0.5;

/// What was sent from a pause to the next refusal.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spell {
    pub(super) seconds: f64,
    pub(super) accepted: f64,
}

impl Spell {
    /// What flows into a bucket that was as full before both spells and empty after them.
    pub(super) fn bucket(&self, other: &Spell) -> Option<f64> {
        let seconds = self.seconds - other.seconds;
        (other.seconds > 0.0 && seconds.abs() >= SPELLS_DIFFER)
            .then(|| (self.accepted - other.accepted) / seconds)
    }
}

/// What comes after a rate was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Climb {
    /// The limit is anywhere above.
    Fast,
    /// It is not far.
    Gentle,
    /// It is known, and may have been raised.
    Rare,
}

impl Climb {
    /// How often it has doubled the rate after so many seconds.
    pub(super) fn doublings(self, seconds: f64) -> f64 {
        match self {
            Climb::Fast => seconds,
            Climb::Gentle => (seconds / 6.0).powf(1.2),
            Climb::Rare => (seconds / CLIMB).powf(2.5),
        }
    }
}
