//! Refusals that may not be the row's own fault: held back until it is known.
//!
//! Some mistakes make the API refuse every row alike: a merchant id of another account, a mapping that sends the wrong
//! column, a right that the key lacks. Written down as `rejected`, the rows would not be sent again once the mistake
//! is mended. So where the first answers of a run are one and the same refusal and none succeeds, the run stops (the
//! canary), and where a 403 that the program does not know hits one row after the other, it stops at any time. Their
//! rows stay pending. One success shows that the API takes rows: then a refusal is the row's.
//!
//! Pure: settlements come in and go out. What is held is bounded by the canary's number.

use std::num::NonZeroU64;

use super::lifecycle::StopReason;
use crate::{
    ledger::{RowError, RowResult, Settlement, UpdateResult},
    sender::Halt,
};

/// So many rows in a row, with no success between them, are refused with a 403 of unknown meaning before the run
/// stops. One row may be alone with it.
const FORBIDDEN_ROWS: usize = 5;

/// The refusals that are held back.
pub(super) struct SystematicRefusalDetector {
    /// Until it is decided: so many refusals that are all the same stop the run.
    canary: Option<NonZeroU64>,
    held: Vec<Settlement>,
    /// What the held ones say.
    refusal: Option<Refusal>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Watching,
    /// The run stops because of them: what is refused is put back.
    Stopped,
    /// Nothing is held any more.
    Closed,
}

/// What a refusal says, but for the reference that it may quote.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    status: u16,
    code: Option<String>,
    message: Option<String>,
}

impl Refusal {
    /// The refusal of a settlement, if the API's answer was one.
    fn of(settlement: &Settlement) -> Option<Refusal> {
        let (RowResult::Rejected(trouble)
        | RowResult::ExistingThenUpdate(_, UpdateResult::Rejected(trouble))) = settlement.result()
        else {
            return None;
        };
        let RowError { code, message, http_status, .. } = trouble;
        let reference = settlement.reference().as_str();
        let message = message.as_ref().map(|message| message.replace(reference, "…"));
        http_status.map(|status| Refusal { status, code: code.clone(), message })
    }

    /// What both say: a message that only one row gets may quote the row's fields.
    fn common(self, before: Option<Refusal>) -> Refusal {
        let Some(before) = before else { return self };
        let Refusal { status, code, message } = self;
        Refusal {
            status,
            code: code.filter(|code| Some(code) == before.code.as_ref()),
            message: message.filter(|message| Some(message) == before.message.as_ref()),
        }
    }

    fn words(&self) -> String {
        let mut words = format!("HTTP {}", self.status);
        for part in [&self.code, &self.message].into_iter().flatten() {
            words.push_str(", ");
            words.push_str(part);
        }
        words
    }
}

impl SystematicRefusalDetector {
    /// Watches for so many first refusals that are all the same.
    pub(super) fn new(canary: Option<NonZeroU64>) -> SystematicRefusalDetector {
        SystematicRefusalDetector { canary, held: Vec::new(), refusal: None, stage: Stage::Watching }
    }

    /// Whether anything is held back.
    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// What of it may be committed, and why the run is to stop, if it is.
    pub(super) fn pass(&mut self, settled: Vec<Settlement>) -> (Vec<Settlement>, Option<StopReason>) {
        if self.stage == Stage::Closed {
            return (settled, None);
        }
        let (mut passed, mut stop) = (Vec::with_capacity(settled.len()), None);
        for settlement in settled {
            match Refusal::of(&settlement) {
                Some(_) if self.stage == Stage::Stopped => passed.push(settlement.into_pending()),
                Some(refusal) if self.is_suspect(&refusal) => {
                    self.refusal = Some(refusal.common(self.refusal.take()));
                    self.held.push(settlement);
                    stop = stop.or(self.stop(&mut passed));
                }
                Some(_) => passed.push(settlement),
                None => {
                    if settlement.result().outcome().is_success() {
                        self.canary = None;
                        self.release(&mut passed);
                    }
                    passed.push(settlement);
                }
            }
            if self.stage == Stage::Watching && self.canary.is_none() && !self.is_of_the_forbidden() {
                self.release(&mut passed);
            }
        }
        (passed, stop)
    }

    /// The run is at its end: what is held is settled as it was answered, or put back where the run was stopped.
    pub(super) fn close(&mut self, completed: bool) -> Vec<Settlement> {
        self.stage = Stage::Closed;
        let held = std::mem::take(&mut self.held).into_iter();
        if completed { held.collect() } else { held.map(Settlement::into_pending).collect() }
    }

    /// Whether a refusal is to be held back. Another one than those before decides the canary.
    fn is_suspect(&mut self, refusal: &Refusal) -> bool {
        if self.refusal.as_ref().is_some_and(|before| before != refusal) && self.is_holding() {
            self.canary = None;
        }
        self.canary.is_some()
            || (refusal.status == 403 && (self.held.is_empty() || self.is_of_the_forbidden()))
    }

    fn is_of_the_forbidden(&self) -> bool {
        self.refusal.as_ref().is_some_and(|refusal| refusal.status == 403)
    }

    fn release(&mut self, passed: &mut Vec<Settlement>) {
        passed.append(&mut self.held);
        self.refusal = None;
    }

    /// Why the run is to stop, if enough is held; it is put back then.
    fn stop(&mut self, passed: &mut Vec<Settlement>) -> Option<StopReason> {
        let refusal = self.refusal.as_ref()?;
        let stop = if refusal.status == 403 && self.held.len() >= FORBIDDEN_ROWS {
            StopReason::Halt(Halt::Forbidden(refusal.words()))
        } else if self.canary.is_some_and(|most| self.held.len() as u64 >= most.get()) {
            StopReason::Canary(self.held.len() as u64, refusal.words())
        } else {
            return None;
        };
        self.stage = Stage::Stopped;
        passed.extend(std::mem::take(&mut self.held).into_iter().map(Settlement::into_pending));
        Some(stop)
    }
}
