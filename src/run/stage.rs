//! The stages of a run, and every transition between them.
//!
//! Pure: an event comes in, the next stage and an action for the loop go out. An event without an entry in the table
//! is a bug of its sender, and ends the run with an error. A dash is an entry: nothing changes.
//!
//! | stage | `Claimed(n)` | `Settled` | `SourceEnded` | `Stop` | `Signal` | `GraceExpired` | `LedgerUnreachable` |
//! |---|---|---|---|---|---|---|---|
//! | `Recovering` | at most all: `n` fewer are unclaimed | none unclaimed: `Reading`, or `Finishing` if the source has ended | the first: kept | `Stopping`, drain | `Stopping`, drain | | |
//! | `Reading` | | | `Finishing` | `Stopping`, drain | `Stopping`, drain | | |
//! | `Finishing` | | end | | `Stopping`, drain | `Stopping`, drain | | |
//! | `Stopping` | | end | | – | the user's first: noted; their second: quit | `Abandoning`, abandon | |
//! | `Abandoning` | | end | | – | the user's first: noted; their second: quit | | quit |
//!
//! The first reason to stop is the one that is recorded. A source that could not be read to its end is no reason to
//! stop: the rows before the error are sent and settled, and the error becomes the run's end.

use tokio::time::Instant;

use super::end::{EndReason, Signal, StopReason};
use crate::{error::Error, source};

/// The stage of a run.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Rows that an earlier run left in doubt are settled; no new row is claimed before that. Meanwhile the source is
    /// read ahead.
    Recovering {
        /// Rows in doubt that are not claimed yet.
        unclaimed: usize,
        /// How the source ended, if it has.
        source_end: Option<SourceEnd>,
    },
    /// Rows of the source are read, claimed and sent.
    Reading,
    /// The source is read; rows may still have to be claimed, sent or settled.
    Finishing {
        /// How the source ended.
        source_end: SourceEnd,
    },
    /// No further request is started. Requests in flight may finish until `abandon_at`.
    Stopping {
        /// The first reason to stop.
        reason: EndReason,
        /// Whether the user has sent a signal; the next one quits.
        is_interrupted: bool,
        /// The end of the shutdown grace.
        abandon_at: Instant,
    },
    /// Requests in flight are abandoned; their rows are in doubt.
    Abandoning {
        /// The first reason to stop.
        reason: EndReason,
        /// Whether the user has sent a signal; the next one quits.
        is_interrupted: bool,
    },
}

/// How the source ended.
#[derive(Debug)]
pub(crate) enum SourceEnd {
    /// The whole source was read.
    Reached,
    /// The source cannot be read any further.
    Failed(source::Error),
}

/// An event that may change the stage.
#[derive(Debug)]
pub(crate) enum StageEvent {
    /// This many rows in doubt were claimed.
    Claimed(usize),
    /// Every claimed row is settled, and every settlement is committed.
    Settled,
    /// The source has no further rows.
    SourceEnded(SourceEnd),
    /// The program ends the run.
    Stop(StopReason),
    /// The user ends the run.
    Signal(Signal),
    /// The shutdown grace is over.
    GraceExpired,
    /// A ledger on a server was still unreachable some time after the grace: nothing more can be recorded.
    LedgerUnreachable,
}

/// What the loop must do after a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Continue.
    Nothing,
    /// Drop the rows that were read and not claimed, release the claims that no send task has started, and let requests
    /// in flight finish.
    Drain,
    /// Abandon the requests in flight.
    Abandon,
    /// Leave the loop: the run has ended.
    End,
    /// Leave the loop at once. Rows in flight and a commit in progress are in doubt, as after a crash.
    Quit,
}

impl Stage {
    /// The first stage of a run with this many rows in doubt.
    pub(crate) fn first(in_doubt: usize) -> Stage {
        match in_doubt {
            0 => Stage::Reading,
            unclaimed => Stage::Recovering { unclaimed, source_end: None },
        }
    }

    /// The transition, by the table in the module's documentation. `abandon_at` is the end of the grace if the run
    /// stops now.
    ///
    /// # Errors
    /// If the table has no entry.
    pub(crate) fn on(self, event: StageEvent, abandon_at: Instant) -> Result<(Stage, Action), Error> {
        let stop = |reason: EndReason| {
            let is_interrupted = matches!(reason, EndReason::Interrupted(_));
            (Stage::Stopping { reason, is_interrupted, abandon_at }, Action::Drain)
        };
        Ok(match (self, event) {
            (Stage::Recovering { unclaimed, source_end }, StageEvent::Claimed(rows)) if rows <= unclaimed => {
                (Stage::Recovering { unclaimed: unclaimed - rows, source_end }, Action::Nothing)
            }
            (Stage::Recovering { unclaimed: 0, source_end: None }, StageEvent::Settled) => {
                (Stage::Reading, Action::Nothing)
            }
            (Stage::Recovering { unclaimed: 0, source_end: Some(source_end) }, StageEvent::Settled) => {
                (Stage::Finishing { source_end }, Action::Nothing)
            }
            (Stage::Recovering { unclaimed, source_end: None }, StageEvent::SourceEnded(end)) => {
                (Stage::Recovering { unclaimed, source_end: Some(end) }, Action::Nothing)
            }
            (Stage::Reading, StageEvent::SourceEnded(source_end)) => {
                (Stage::Finishing { source_end }, Action::Nothing)
            }
            (
                stage @ (Stage::Finishing { .. } | Stage::Stopping { .. } | Stage::Abandoning { .. }),
                StageEvent::Settled,
            ) => (stage, Action::End),
            (
                stage @ (Stage::Stopping { is_interrupted: true, .. }
                | Stage::Abandoning { is_interrupted: true, .. }),
                StageEvent::Signal(_),
            ) => (stage, Action::Quit),
            (Stage::Stopping { reason, abandon_at, .. }, StageEvent::Signal(_)) => {
                (Stage::Stopping { reason, is_interrupted: true, abandon_at }, Action::Nothing)
            }
            (Stage::Abandoning { reason, .. }, StageEvent::Signal(_)) => {
                (Stage::Abandoning { reason, is_interrupted: true }, Action::Nothing)
            }
            (Stage::Stopping { reason, is_interrupted, .. }, StageEvent::GraceExpired) => {
                (Stage::Abandoning { reason, is_interrupted }, Action::Abandon)
            }
            (stage @ Stage::Abandoning { .. }, StageEvent::LedgerUnreachable) => (stage, Action::Quit),
            (stage, StageEvent::Stop(_)) if stage.is_stopping() => (stage, Action::Nothing),
            (_, StageEvent::Stop(reason)) => stop(EndReason::Stopped(reason)),
            (_, StageEvent::Signal(signal)) => stop(EndReason::Interrupted(signal)),
            (stage, event) => {
                return Err(Error::Bug(format!("{} while the run is {}", event.name(), stage.name())));
            }
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Stage::Recovering { .. } => "recovering",
            Stage::Reading => "reading",
            Stage::Finishing { .. } => "finishing",
            Stage::Stopping { .. } => "stopping",
            Stage::Abandoning { .. } => "abandoning",
        }
    }

    /// Whether the run ends before the end of its source.
    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self, Stage::Stopping { .. } | Stage::Abandoning { .. })
    }

    /// Whether the source has further rows for this run.
    pub(crate) fn reads_source(&self) -> bool {
        matches!(self, Stage::Reading | Stage::Recovering { source_end: None, .. })
    }

    /// Whether rows in doubt are settled before those of the source.
    pub(crate) fn is_recovering(&self) -> bool {
        matches!(self, Stage::Recovering { .. })
    }

    /// Why the run is stopping, if it is.
    pub(crate) fn stop_reason(&self) -> Option<&EndReason> {
        match self {
            Stage::Stopping { reason, .. } | Stage::Abandoning { reason, .. } => Some(reason),
            Stage::Recovering { .. } | Stage::Reading | Stage::Finishing { .. } => None,
        }
    }

    /// When requests in flight are to be abandoned.
    pub(crate) fn abandon_at(&self) -> Option<Instant> {
        match self {
            Stage::Stopping { abandon_at, .. } => Some(*abandon_at),
            _ => None,
        }
    }

    /// The reason for which a run ends that leaves the loop at this stage.
    ///
    /// # Errors
    /// If no action leaves the loop at this stage: while the run is recovering or reading.
    pub(crate) fn end_reason(self) -> Result<EndReason, Error> {
        match self {
            Stage::Stopping { reason, .. } | Stage::Abandoning { reason, .. } => Ok(reason),
            Stage::Finishing { source_end: SourceEnd::Failed(error) } => Ok(EndReason::SourceFailed(error)),
            Stage::Finishing { source_end: SourceEnd::Reached } => Ok(EndReason::Completed),
            Stage::Recovering { .. } | Stage::Reading => {
                Err(Error::Bug(format!("the run has ended while it is {}", self.name())))
            }
        }
    }
}

impl StageEvent {
    fn name(&self) -> &'static str {
        match self {
            StageEvent::Claimed(_) => "rows in doubt were claimed",
            StageEvent::Settled => "all rows were settled",
            StageEvent::SourceEnded(_) => "the source ended",
            StageEvent::Stop(_) => "the program stopped the run",
            StageEvent::Signal(_) => "a signal came",
            StageEvent::LedgerUnreachable => "the ledger was unreachable",
            StageEvent::GraceExpired => "the shutdown grace expired",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The stage with this name in the table.
    fn stage(name: &str, at: Instant) -> Stage {
        let failures = || EndReason::Stopped(StopReason::TooManyFailures(3));
        match name {
            "recovering 5" => Stage::first(5),
            "recovering 0" => Stage::Recovering { unclaimed: 0, source_end: None },
            "recovering 0, source ended" => {
                Stage::Recovering { unclaimed: 0, source_end: Some(SourceEnd::Reached) }
            }
            "recovering 5, source ended" => {
                Stage::Recovering { unclaimed: 5, source_end: Some(SourceEnd::Reached) }
            }
            "reading" => Stage::first(0),
            "finishing" => Stage::Finishing { source_end: SourceEnd::Reached },
            "finishing, source failed" => Stage::Finishing { source_end: SourceEnd::Failed(failed()) },
            "stopped" => Stage::Stopping { reason: failures(), is_interrupted: false, abandon_at: at },
            "stopped, interrupted" => {
                Stage::Stopping { reason: failures(), is_interrupted: true, abandon_at: at }
            }
            "interrupted" => {
                Stage::Stopping { reason: EndReason::Interrupted(15), is_interrupted: true, abandon_at: at }
            }
            "abandoning" => Stage::Abandoning { reason: failures(), is_interrupted: false },
            "abandoning, interrupted" => Stage::Abandoning { reason: failures(), is_interrupted: true },
            _ => unreachable!("{name}"),
        }
    }

    const STAGES: [&str; 12] = [
        "recovering 5",
        "recovering 0",
        "recovering 0, source ended",
        "recovering 5, source ended",
        "reading",
        "finishing",
        "finishing, source failed",
        "stopped",
        "stopped, interrupted",
        "interrupted",
        "abandoning",
        "abandoning, interrupted",
    ];

    fn event(name: &str) -> StageEvent {
        match name {
            "claimed 5" => StageEvent::Claimed(5),
            "settled" => StageEvent::Settled,
            "source ended" => StageEvent::SourceEnded(SourceEnd::Reached),
            "source failed" => StageEvent::SourceEnded(SourceEnd::Failed(failed())),
            "stop" => StageEvent::Stop(StopReason::TooManyFailures(3)),
            "signal" => StageEvent::Signal(15),
            "grace expired" => StageEvent::GraceExpired,
            "ledger unreachable" => StageEvent::LedgerUnreachable,
            _ => unreachable!("{name}"),
        }
    }

    const EVENTS: [&str; 8] = [
        "claimed 5",
        "settled",
        "source ended",
        "source failed",
        "stop",
        "signal",
        "grace expired",
        "ledger unreachable",
    ];

    /// Every transition of the table: stage, event, the stage after it, action. Every other event is a bug.
    const TRANSITIONS: &[(&str, &str, &str, Action)] = &[
        ("recovering 5", "claimed 5", "recovering 0", Action::Nothing),
        ("recovering 5", "source ended", "recovering 5, source ended", Action::Nothing),
        ("recovering 5, source ended", "claimed 5", "recovering 0, source ended", Action::Nothing),
        ("recovering 0", "settled", "reading", Action::Nothing),
        ("recovering 0", "source ended", "recovering 0, source ended", Action::Nothing),
        ("recovering 0, source ended", "settled", "finishing", Action::Nothing),
        ("recovering 5", "stop", "stopped", Action::Drain),
        ("recovering 0", "stop", "stopped", Action::Drain),
        ("recovering 5, source ended", "stop", "stopped", Action::Drain),
        ("recovering 0, source ended", "stop", "stopped", Action::Drain),
        ("recovering 5", "signal", "interrupted", Action::Drain),
        ("recovering 0", "signal", "interrupted", Action::Drain),
        ("recovering 5, source ended", "signal", "interrupted", Action::Drain),
        ("recovering 0, source ended", "signal", "interrupted", Action::Drain),
        ("reading", "source ended", "finishing", Action::Nothing),
        ("reading", "source failed", "finishing, source failed", Action::Nothing),
        ("reading", "stop", "stopped", Action::Drain),
        ("reading", "signal", "interrupted", Action::Drain),
        ("finishing", "settled", "finishing", Action::End),
        ("finishing", "stop", "stopped", Action::Drain),
        ("finishing", "signal", "interrupted", Action::Drain),
        ("finishing, source failed", "settled", "finishing, source failed", Action::End),
        ("finishing, source failed", "stop", "stopped", Action::Drain),
        ("finishing, source failed", "signal", "interrupted", Action::Drain),
        ("stopped", "settled", "stopped", Action::End),
        ("stopped", "stop", "stopped", Action::Nothing),
        ("stopped", "signal", "stopped, interrupted", Action::Nothing),
        ("stopped", "grace expired", "abandoning", Action::Abandon),
        ("stopped, interrupted", "stop", "stopped, interrupted", Action::Nothing),
        ("stopped, interrupted", "settled", "stopped, interrupted", Action::End),
        ("stopped, interrupted", "signal", "stopped, interrupted", Action::Quit),
        ("stopped, interrupted", "grace expired", "abandoning, interrupted", Action::Abandon),
        ("interrupted", "stop", "interrupted", Action::Nothing),
        ("interrupted", "settled", "interrupted", Action::End),
        ("interrupted", "signal", "interrupted", Action::Quit),
        ("abandoning", "stop", "abandoning", Action::Nothing),
        ("abandoning", "settled", "abandoning", Action::End),
        ("abandoning", "signal", "abandoning, interrupted", Action::Nothing),
        ("abandoning, interrupted", "stop", "abandoning, interrupted", Action::Nothing),
        ("abandoning, interrupted", "settled", "abandoning, interrupted", Action::End),
        ("abandoning, interrupted", "signal", "abandoning, interrupted", Action::Quit),
        ("abandoning", "ledger unreachable", "abandoning", Action::Quit),
        ("abandoning, interrupted", "ledger unreachable", "abandoning, interrupted", Action::Quit),
    ];

    /// Transitions to stages without a name in [`STAGES`].
    const ELSEWHERE: [(&str, &str); 3] = [
        ("recovering 5", "source failed"),
        ("recovering 0", "source failed"),
        ("interrupted", "grace expired"),
    ];

    fn failed() -> source::Error {
        source::Error::Empty("users.csv".into())
    }

    fn on(stage: Stage, event: StageEvent, now: Instant) -> (Stage, Action) {
        stage.on(event, now).expect("a legal transition")
    }

    #[test]
    fn every_transition_is_in_the_table_and_every_other_event_is_a_bug() {
        let now = Instant::now();
        let mut illegal = 0;
        for from in STAGES {
            for sent in EVENTS.into_iter().filter(|sent| !ELSEWHERE.contains(&(from, *sent))) {
                let result = stage(from, now).on(event(sent), now);
                let entry = TRANSITIONS.iter().find(|entry| (entry.0, entry.1) == (from, sent));
                match (entry, result) {
                    (Some((.., to, action)), Ok((after, done))) => {
                        let wanted = (format!("{:?}", stage(to, now)), *action);
                        assert_eq!((format!("{after:?}"), done), wanted, "{from}, {sent}");
                    }
                    (None, Err(Error::Bug(_))) => illegal += 1,
                    (_, result) => panic!("{from}, {sent}: {result:?}"),
                }
            }
        }
        let all = STAGES.len() * EVENTS.len();
        assert_eq!(illegal, all - TRANSITIONS.len() - ELSEWHERE.len());
    }

    #[test]
    fn more_rows_than_there_are_cannot_be_claimed() {
        assert!(stage("recovering 5", Instant::now()).on(StageEvent::Claimed(6), Instant::now()).is_err());
    }

    #[test]
    fn a_run_that_reads_has_no_end() {
        for name in ["reading", "recovering 0", "recovering 5, source ended"] {
            assert!(stage(name, Instant::now()).end_reason().is_err(), "{name}");
        }
    }

    #[test]
    fn the_first_reason_to_stop_is_the_end() {
        let now = Instant::now();
        let (failed, _) = on(Stage::Reading, event("source failed"), now);
        let (stopped, action) = on(failed, event("stop"), now);
        assert_eq!(action, Action::Drain, "a source that failed does not end its rows");
        let (stopped, _) = on(stopped, event("signal"), now + Duration::from_secs(1));
        assert_eq!(stopped.abandon_at(), Some(now));
        assert!(matches!(stopped.end_reason(), Ok(EndReason::Stopped(StopReason::TooManyFailures(3)))));
        assert!(matches!(stage("finishing", now).end_reason(), Ok(EndReason::Completed)));
        let failed = stage("finishing, source failed", now);
        assert!(matches!(failed.end_reason(), Ok(EndReason::SourceFailed(_))));
    }

    #[test]
    fn an_interrupted_run_that_is_abandoned_quits_at_the_second_signal() {
        let now = Instant::now();
        let (abandoning, action) = on(stage("interrupted", now), event("grace expired"), now);
        assert_eq!(action, Action::Abandon);
        assert_eq!(on(abandoning, event("signal"), now).1, Action::Quit);
    }

    #[test]
    fn a_source_that_fails_during_recovery_fails_the_run_after_its_rows() {
        let now = Instant::now();
        let (recovering, _) = on(stage("recovering 0", now), event("source failed"), now);
        assert!(!recovering.reads_source());
        let (finishing, action) = on(recovering, event("settled"), now);
        assert_eq!(action, Action::Nothing);
        assert!(matches!(finishing.end_reason(), Ok(EndReason::SourceFailed(_))));
    }
}
