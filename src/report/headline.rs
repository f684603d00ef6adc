//! The headline of a report: the state of the import in one or two sentences.
//!
//! Pure. Counts are rows; a row that succeeded is a customer in Juspay.

use super::{
    error_summary::ErrorSummary,
    format::{grouped, rows, time},
    live_status::LiveStatus,
};
use crate::{
    customer::{CharacterCounts, CharacterKind},
    ledger::{Outcome, OutcomeClass, RunState, Tally},
};

/// The data of a headline.
pub(super) struct Standing<'a> {
    /// `import` or `retry`.
    pub(super) command: &'a str,
    /// The state of the run, or of the last run of a ledger.
    pub(super) state: RunState,
    /// Rows by outcome.
    pub(super) tally: &'a Tally,
    /// The errors, the most frequent first.
    pub(super) errors: &'a [ErrorSummary],
    /// The disallowed characters.
    pub(super) characters: &'a CharacterCounts,
    /// The live status, while the run is in progress.
    pub(super) live: Option<&'a LiveStatus>,
    /// Whether the counts are those of a whole ledger.
    pub(super) is_of_ledger: bool,
}

impl Standing<'_> {
    /// The sentences.
    pub(super) fn headline(&self) -> String {
        let is_running = self.state == RunState::Running;
        let all = self.tally.rows();
        if all == 0 {
            return self.nothing_read().into();
        }
        let succeeded = self.tally.sum(Outcome::is_success);
        let open = self.tally.sum(is_open);
        let mut parts = vec![match is_running {
            true => format!("{} in Juspay so far", customers_are(succeeded)),
            // An imported customer whose row in a newer file is invalid is in both counts, so they do not add up to
            // a number of customers.
            false if self.is_of_ledger && self.tally.sum(Outcome::is_to_correct) > 0 => {
                format!("{} in Juspay", customers_are(succeeded))
            }
            false => in_juspay(succeeded, all),
        }];
        parts.extend(self.to_correct());
        if !is_running && open > 0 {
            let verb = if open == 1 { "is" } else { "are" };
            parts.push(format!("{} {verb} still open: run the same command again", rows(open)));
        }
        let standing = parts.join("; ") + ".";
        match self.state {
            RunState::Running => format!("{} {standing}", self.progress()),
            RunState::Completed => standing,
            _ if open > 0 => format!("The {} did not finish. {standing}", self.command),
            _ => format!("The {} did not finish: run the same command again. {standing}", self.command),
        }
    }

    fn nothing_read(&self) -> &'static str {
        match (self.state, self.command) {
            (RunState::Running, _) => "The run has begun and has settled no row yet.",
            (RunState::Completed, "retry") => "There was nothing to try again.",
            (RunState::Completed, _) => "The file has no rows.",
            _ => "The run ended before it had settled a row: run the same command again.",
        }
    }

    /// The progress of a current run, as a sentence.
    fn progress(&self) -> String {
        let Some(live) = self.live else { return format!("The {} is running.", self.command) };
        let done = match live.percent() {
            Some(percent) => format!("{percent} % done"),
            None => format!("{} done", rows(live.rows_settled)),
        };
        let left = live.left().map_or_else(String::new, |left| format!(", about {} left", time(left)));
        format!("The {} is running: {done}{left}.", self.command)
    }

    /// The number of rows to correct, and the most frequent reason.
    fn to_correct(&self) -> Option<String> {
        let to_correct = self.tally.sum(Outcome::is_to_correct);
        let (verb, cause) = match (to_correct, self.cause()) {
            (0, _) => return None,
            (1, Some((_, because))) => ("needs", format!(", because {because}")),
            (1, None) => ("needs", String::new()),
            (_, Some((of, because))) => {
                let share = match of {
                    _ if of >= to_correct => "all of them".into(),
                    _ if of > to_correct / 2 => "most of them".into(),
                    _ => format!("{} of them", grouped(of)),
                };
                ("need", format!(", {share} because {because}"))
            }
            (_, None) => ("need", String::new()),
        };
        let of = match self.is_of_ledger && self.state != RunState::Running && to_correct < self.tally.rows()
        {
            true => format!("{} of {}", grouped(to_correct), rows(self.tally.rows())),
            false => rows(to_correct),
        };
        Some(format!("{of} {verb} correction{cause}"))
    }

    /// The most frequent reason in a form that follows `because`, with its number of rows.
    fn cause(&self) -> Option<(u64, String)> {
        let in_names = self.characters.in_names.iter().map(|(kind, rows)| (*rows, in_a_name(*kind)));
        let others = self.errors.iter().filter(|error| error.outcome.is_to_correct());
        let others = others.filter(|error| !error.is_explained_by_characters());
        let others = others.map(|error| (error.rows, error.because()));
        in_names.chain(others).reduce(|most, other| if other.0 > most.0 { other } else { most })
    }
}

fn in_a_name(kind: CharacterKind) -> String {
    match kind {
        CharacterKind::Other => "of a character in a name that Juspay does not allow".into(),
        kind => format!("of {kind} in a name"),
    }
}

/// Whether the row may still succeed without a correction.
pub(super) fn is_open(outcome: Outcome) -> bool {
    matches!(outcome.class(), OutcomeClass::Failed | OutcomeClass::Pending)
}

/// `All 9 customers are in Juspay`, `8 of 9 customers are in Juspay`.
fn in_juspay(succeeded: u64, all: u64) -> String {
    let of = grouped(all);
    match (succeeded, all) {
        (1, 1) => "The customer is in Juspay".into(),
        (0, 1) => "The customer is not in Juspay".into(),
        (0, _) => format!("None of {of} customers are in Juspay"),
        (1, _) => format!("1 of {of} customers is in Juspay"),
        _ if succeeded == all => format!("All {of} customers are in Juspay"),
        _ => format!("{} of {of} customers are in Juspay", grouped(succeeded)),
    }
}

fn customers_are(count: u64) -> String {
    match count {
        0 => "No customer is".into(),
        1 => "1 customer is".into(),
        _ => format!("{} customers are", grouped(count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(state: RunState, tally: &[(Outcome, u64)], in_names: &[(CharacterKind, u64)]) -> String {
        let tally = tally.iter().copied().collect();
        let in_names = in_names.iter().copied().collect();
        let characters = CharacterCounts { in_names, ..CharacterCounts::default() };
        let standing = Standing {
            command: "import",
            state,
            tally: &tally,
            errors: &[],
            characters: &characters,
            live: None,
            is_of_ledger: false,
        };
        standing.headline()
    }

    #[test]
    fn a_headline_answers_the_question() {
        let done = RunState::Completed;
        let (space, letter) = ((CharacterKind::Space, 26_912), (CharacterKind::Letter, 12_000));
        let standing_of_all = [(Outcome::Created, 251_980), (Outcome::Invalid, 48_020)];
        assert_eq!(
            standing(done, &standing_of_all, &[letter, space]),
            "251,980 of 300,000 customers are in Juspay; 48,020 rows need correction, most of them because of a \
             space in a name."
        );
        assert!(standing(done, &standing_of_all, &[letter]).contains("12,000 of them because of a letter"));
        assert_eq!(standing(done, &[(Outcome::Existing, 1)], &[]), "The customer is in Juspay.");
        assert_eq!(standing(done, &[(Outcome::Created, 9)], &[]), "All 9 customers are in Juspay.");
        assert_eq!(
            standing(done, &[(Outcome::Created, 1), (Outcome::Invalid, 1)], &[(CharacterKind::Space, 1)]),
            "1 of 2 customers is in Juspay; 1 row needs correction, because of a space in a name."
        );
        assert_eq!(
            standing(done, &[(Outcome::Created, 8), (Outcome::Failed, 1)], &[]),
            "8 of 9 customers are in Juspay; 1 row is still open: run the same command again."
        );
        assert_eq!(standing(done, &[], &[]), "The file has no rows.");
    }

    #[test]
    fn queued_rows_of_a_running_run_are_nothing_to_act_on() {
        let tally = [(Outcome::Created, 1), (Outcome::Pending, 1_091)];
        assert_eq!(
            standing(RunState::Running, &tally, &[]),
            "The import is running. 1 customer is in Juspay so far."
        );
        assert_eq!(
            standing(RunState::Died, &tally, &[]),
            "The import did not finish. 1 of 1,092 customers is in Juspay; 1,091 rows are still open: run the same \
             command again."
        );
    }
}
