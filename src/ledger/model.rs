//! The words of the ledger: what can become of a row and of a run, and how much of each there is.
//!
//! Pure values. The words themselves are a contract: exports, summaries and the tables use them.

/// What became of a row; each data row of a source is in exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Created by this ledger's runs.
    Created,
    /// The merchant had it already.
    Existing,
    /// An earlier run imported it, with the same fields.
    Unchanged,
    /// An earlier run imported it; the fields differ now.
    Changed,
    /// Imported before, differed, Update accepted.
    Updated,
    /// An earlier row of the same source has this reference.
    Duplicate,
    /// Breaks a rule.
    Invalid,
    /// The API refused this row.
    Rejected,
    /// Attempts used up on errors that may pass.
    Failed,
    /// Not settled yet.
    Pending,
}

impl Outcome {
    /// All ten, in the order in which they are shown.
    pub const ALL: [Outcome; 10] = [
        Outcome::Created,
        Outcome::Existing,
        Outcome::Unchanged,
        Outcome::Changed,
        Outcome::Updated,
        Outcome::Duplicate,
        Outcome::Invalid,
        Outcome::Rejected,
        Outcome::Failed,
        Outcome::Pending,
    ];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Created => "created",
            Outcome::Existing => "existing",
            Outcome::Unchanged => "unchanged",
            Outcome::Changed => "changed",
            Outcome::Updated => "updated",
            Outcome::Duplicate => "duplicate",
            Outcome::Invalid => "invalid",
            Outcome::Rejected => "rejected",
            Outcome::Failed => "failed",
            Outcome::Pending => "pending",
        }
    }

    /// The outcome of that word.
    pub fn from_name(name: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|outcome| outcome.name() == name)
    }

    /// Whether the row's customer is at the API, with its id known.
    pub fn is_success(self) -> bool {
        matches!(
            self,
            Outcome::Created | Outcome::Existing | Outcome::Unchanged | Outcome::Changed | Outcome::Updated
        )
    }
}

/// Committed counts by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally(pub(super) [u64; Outcome::ALL.len()]);

impl Tally {
    /// How many rows have this outcome.
    pub fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize]
    }

    /// All rows.
    pub fn rows(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Rows whose outcome satisfies the condition.
    pub fn sum(&self, condition: impl Fn(Outcome) -> bool) -> u64 {
        Outcome::ALL.into_iter().filter(|outcome| condition(*outcome)).map(|outcome| self.get(outcome)).sum()
    }

    /// The rows of both.
    pub(super) fn plus(&self, other: &Tally) -> Tally {
        Tally(std::array::from_fn(|at| self.0[at] + other.0[at]))
    }

    /// What a later run calls the same rows: what was imported then is unchanged now.
    pub(super) fn seen_again(&self) -> Tally {
        let mut again = Tally::default();
        for outcome in Outcome::ALL {
            let is_imported = outcome.is_success() && outcome != Outcome::Changed;
            let now = if is_imported { Outcome::Unchanged } else { outcome };
            again.0[now as usize] += self.get(outcome);
        }
        again
    }

    /// One more row.
    pub(super) fn add(&mut self, outcome: Outcome) {
        self.0[outcome as usize] += 1;
    }

    /// A claimed row has come to its end.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        self.0[Outcome::Pending as usize] -= 1;
        self.add(outcome);
    }
}

impl FromIterator<(Outcome, u64)> for Tally {
    fn from_iter<I: IntoIterator<Item = (Outcome, u64)>>(counts: I) -> Tally {
        let mut tally = Tally::default();
        for (outcome, count) in counts {
            tally.0[outcome as usize] = count;
        }
        tally
    }
}

/// What a run did on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Every HTTP request.
    pub requests: u64,
    /// Requests that repeated a step.
    pub retries: u64,
    /// Answers with status 429.
    pub throttled: u64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// It goes on (or its process died, as far as the ledger knows).
    Running,
    /// Its process died: it is running in a ledger that nobody holds. Never recorded.
    Died,
    /// It reached the end of its source.
    Completed,
    /// The user ended it.
    Interrupted,
    /// It ended itself.
    Stopped,
}

impl RunState {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            RunState::Running => "running",
            RunState::Died => "died",
            RunState::Completed => "completed",
            RunState::Interrupted => "interrupted",
            RunState::Stopped => "stopped",
        }
    }
}
