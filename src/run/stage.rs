//! The stages of a run, and every transition between them.
//!
//! Pure: an event comes in, the next stage and an action for the loop go out. An event without an entry in the table
//! changes nothing.
//!
//! | stage | `Claimed(n)` | `Settled` | `SourceEnded` | `Stop` | `Signal` | `GraceExpired` |
//! |---|---|---|---|---|---|---|
//! | `Recovering` | `n` fewer are unclaimed | none unclaimed: `Reading`, or `Finishing` if the source has ended | the end is kept | `Stopping`, drain | `Stopping`, drain | |
//! | `Reading` | | | `Finishing` | `Stopping`, drain | `Stopping`, drain | |
//! | `Finishing` | | end | | `Stopping`, drain | `Stopping`, drain | |
//! | `Stopping` | | end | | | the user's first: noted; their second: quit | `Abandoning`, abandon |
//! | `Abandoning` | | end | | | the user's first: noted; their second: quit | |
//!
//! The first reason to stop is the one that is recorded. A source that could not be read to its end is no reason to
//! stop: the rows before the error are sent and settled, and the error becomes the run's end.

use tokio::time::Instant;

use super::end::{EndReason, Signal, StopReason};
use crate::source;

/// What a run is doing.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Rows that an earlier run left in doubt; no new row is claimed before they are settled. The source is read ahead
    /// meanwhile.
    Recovering {
        /// Rows in doubt that are not claimed yet.
        unclaimed: usize,
        /// How the source ended, if it has.
        source_end: Option<SourceEnd>,
    },
    /// Rows of the source are read, claimed and sent.
    Reading,
    /// The source is at its end; rows that were read are still to be claimed, sent or settled.
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
    /// Requests in flight are given up; their rows are in doubt.
    Abandoning {
        /// The first reason to stop.
        reason: EndReason,
        /// Whether the user has sent a signal; the next one quits.
        is_interrupted: bool,
    },
}

/// How the source came to its end.
#[derive(Debug)]
pub(crate) enum SourceEnd {
    /// The whole source is read.
    Reached,
    /// The source cannot be read any further.
    Failed(source::Error),
}

/// What changes a stage.
#[derive(Debug)]
pub(crate) enum StageEvent {
    /// So many rows in doubt are claimed.
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
}

/// What the loop has to do after a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Go on.
    Nothing,
    /// Forget the rows that were read and not claimed, release the claims that no worker has started, and let requests
    /// in flight finish.
    Drain,
    /// Give up the requests in flight.
    Abandon,
    /// Leave the loop: the run is at its end.
    End,
    /// Leave the loop at once. Rows in flight and a commit in progress are in doubt, as after a crash.
    Quit,
}

impl Stage {
    /// The first stage of a run that finds so many rows in doubt.
    pub(crate) fn first(in_doubt: usize) -> Stage {
        match in_doubt {
            0 => Stage::Reading,
            unclaimed => Stage::Recovering { unclaimed, source_end: None },
        }
    }

    /// The transition of the module's table. `abandon_at` is the end of the grace if the run stops now.
    pub(crate) fn on(self, event: StageEvent, abandon_at: Instant) -> (Stage, Action) {
        let stop = |reason: EndReason| {
            let is_interrupted = matches!(reason, EndReason::Interrupted(_));
            (Stage::Stopping { reason, is_interrupted, abandon_at }, Action::Drain)
        };
        match (self, event) {
            (Stage::Recovering { unclaimed, source_end }, StageEvent::Claimed(rows)) => {
                let unclaimed = unclaimed.saturating_sub(rows);
                (Stage::Recovering { unclaimed, source_end }, Action::Nothing)
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
            (stage, StageEvent::Stop(_)) if stage.is_stopping() => (stage, Action::Nothing),
            (_, StageEvent::Stop(reason)) => stop(EndReason::Stopped(reason)),
            (_, StageEvent::Signal(signal)) => stop(EndReason::Interrupted(signal)),
            (stage, _) => (stage, Action::Nothing),
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

    /// Whether rows in doubt come before those of the source.
    pub(crate) fn is_recovering(&self) -> bool {
        matches!(self, Stage::Recovering { .. })
    }

    /// Why the run stops, if it does.
    pub(crate) fn stop_reason(&self) -> Option<&EndReason> {
        match self {
            Stage::Stopping { reason, .. } | Stage::Abandoning { reason, .. } => Some(reason),
            Stage::Recovering { .. } | Stage::Reading | Stage::Finishing { .. } => None,
        }
    }

    /// When requests in flight are to be given up.
    pub(crate) fn abandon_at(&self) -> Option<Instant> {
        match self {
            Stage::Stopping { abandon_at, .. } => Some(*abandon_at),
            _ => None,
        }
    }

    /// How a run ends that is left at this stage. No action leaves the loop while the run is recovering or reading.
    pub(crate) fn end_reason(self) -> EndReason {
        match self {
            Stage::Stopping { reason, .. } | Stage::Abandoning { reason, .. } => reason,
            Stage::Finishing { source_end: SourceEnd::Failed(error) } => EndReason::SourceFailed(error),
            Stage::Finishing { source_end: SourceEnd::Reached }
            | Stage::Recovering { .. }
            | Stage::Reading => EndReason::Completed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A stage as the table has it.
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
            _ => unreachable!("{name}"),
        }
    }

    const EVENTS: [&str; 7] =
        ["claimed 5", "settled", "source ended", "source failed", "stop", "signal", "grace expired"];

    /// Every transition that the table has: stage, event, the stage after it, action.
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
        ("stopped", "signal", "stopped, interrupted", Action::Nothing),
        ("stopped", "grace expired", "abandoning", Action::Abandon),
        ("stopped, interrupted", "settled", "stopped, interrupted", Action::End),
        ("stopped, interrupted", "signal", "stopped, interrupted", Action::Quit),
        ("stopped, interrupted", "grace expired", "abandoning, interrupted", Action::Abandon),
        ("interrupted", "settled", "interrupted", Action::End),
        ("interrupted", "signal", "interrupted", Action::Quit),
        ("abandoning", "settled", "abandoning", Action::End),
        ("abandoning", "signal", "abandoning, interrupted", Action::Nothing),
        ("abandoning, interrupted", "settled", "abandoning, interrupted", Action::End),
        ("abandoning, interrupted", "signal", "abandoning, interrupted", Action::Quit),
    ];

    /// Transitions to stages that no name of [`STAGES`] has.
    const ELSEWHERE: [(&str, &str); 3] = [
        ("recovering 5", "source failed"),
        ("recovering 0", "source failed"),
        ("interrupted", "grace expired"),
    ];

    fn failed() -> source::Error {
        source::Error::Empty("users.csv".into())
    }

    #[test]
    fn every_transition_is_in_the_table_and_no_other_event_changes_anything() {
        let now = Instant::now();
        for from in STAGES {
            for sent in EVENTS.into_iter().filter(|sent| !ELSEWHERE.contains(&(from, *sent))) {
                let entry = TRANSITIONS.iter().find(|entry| (entry.0, entry.1) == (from, sent));
                let (to, action) = entry.map_or((from, Action::Nothing), |entry| (entry.2, entry.3));
                let (after, done) = stage(from, now).on(event(sent), now);
                let wanted = stage(to, now);
                assert_eq!((format!("{after:?}"), done), (format!("{wanted:?}"), action), "{from}, {sent}");
            }
        }
    }

    #[test]
    fn the_first_reason_to_stop_is_the_end() {
        let now = Instant::now();
        let (failed, _) = Stage::Reading.on(event("source failed"), now);
        let (stopped, action) = failed.on(event("stop"), now);
        assert_eq!(action, Action::Drain, "a source that failed does not end its rows");
        let (stopped, _) = stopped.on(event("signal"), now + Duration::from_secs(1));
        assert_eq!(stopped.abandon_at(), Some(now));
        assert!(matches!(stopped.end_reason(), EndReason::Stopped(StopReason::TooManyFailures(3))));
        assert!(matches!(stage("finishing", now).end_reason(), EndReason::Completed));
        let failed = stage("finishing, source failed", now);
        assert!(matches!(failed.end_reason(), EndReason::SourceFailed(_)));
    }

    #[test]
    fn an_interrupted_run_that_is_abandoned_quits_at_the_second_signal() {
        let now = Instant::now();
        let (abandoning, action) = stage("interrupted", now).on(event("grace expired"), now);
        assert_eq!(action, Action::Abandon);
        assert_eq!(abandoning.on(event("signal"), now).1, Action::Quit);
    }

    #[test]
    fn a_source_that_fails_during_recovery_fails_the_run_after_its_rows() {
        let now = Instant::now();
        let (recovering, _) = stage("recovering 0", now).on(event("source failed"), now);
        assert!(!recovering.reads_source());
        let (finishing, action) = recovering.on(event("settled"), now);
        assert_eq!(action, Action::Nothing);
        assert!(matches!(finishing.end_reason(), EndReason::SourceFailed(_)));
    }
}
