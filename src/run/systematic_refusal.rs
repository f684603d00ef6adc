//! Distinguishes systematic refusals, which have one cause for all rows, from refusals of single rows.
//!
//! Some mistakes make the API refuse every row alike: a merchant id of another account, a mapping that sends the wrong
//! column, a permission that the key lacks. A row recorded as `rejected` is not sent again, even after the mistake is
//! corrected. So the refusals that may be systematic are held back, and the run stops with their rows `pending`
//!
//! * if the first replies of the run are all the same refusal and none is a success (the canary);
//! * if [`FORBIDDEN_ROWS`] rows in succession are refused with a 403 of unknown meaning, at any time.
//!
//! One success shows that the API accepts rows: the refusals held back then concern their rows only.
//!
//! Pure: settlements come in and go out. At most as many settlements are held back as the canary counts.

use std::num::NonZeroU64;

use super::end::StopReason;
use crate::{
    ledger::{RowError, Settlement},
    sender::Halt,
};

/// The run stops after this many rows in succession that are refused with a 403 of unknown meaning. A single row may
/// get such a refusal for itself.
const FORBIDDEN_ROWS: usize = 5;

/// Holds refusals back until their cause is known.
pub(super) struct SystematicRefusalDetector {
    /// This many refusals that are all the same stop the run. `None` once a success or a different refusal has shown
    /// that they concern single rows.
    canary: Option<NonZeroU64>,
    held: Vec<Settlement>,
    /// The common part of all refusals held back.
    refusal: Option<Refusal>,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Watching,
    /// The run stops because of its refusals; refused rows become pending.
    Stopped,
    /// The run has ended; nothing is held back.
    Closed,
}

/// The content of a refusal, without the reference that it may quote.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    status: u16,
    code: Option<String>,
    message: Option<String>,
}

impl Refusal {
    /// The refusal in a settlement, if the API refused the row.
    fn of(settlement: &Settlement) -> Option<Refusal> {
        let RowError { code, message, http_status, .. } = settlement.result().rejection()?;
        let reference = settlement.reference().as_str();
        let message = message.as_ref().map(|message| message.replace(reference, "…"));
        http_status.map(|status| Refusal { status, code: code.clone(), message })
    }

    /// The common part of two refusals. A message that only one row gets may quote the row's fields, so it is
    /// dropped.
    fn common(self, before: Option<Refusal>) -> Refusal {
        let Some(before) = before else { return self };
        let Refusal { status, code, message } = self;
        Refusal {
            status,
            code: code.filter(|code| Some(code) == before.code.as_ref()),
            message: message.filter(|message| Some(message) == before.message.as_ref()),
        }
    }

    fn describe(&self) -> String {
        let mut text = format!("HTTP {}", self.status);
        for part in [&self.code, &self.message].into_iter().flatten() {
            text.push_str(", ");
            text.push_str(part);
        }
        text
    }
}

impl SystematicRefusalDetector {
    /// A detector that stops the run if this many first replies are all the same refusal.
    pub(super) fn new(canary: Option<NonZeroU64>) -> SystematicRefusalDetector {
        SystematicRefusalDetector { canary, held: Vec::new(), refusal: None, mode: Mode::Watching }
    }

    /// Whether settlements are held back.
    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Returns the settlements that may be committed, and the reason to stop the run, if there is one.
    pub(super) fn filter(&mut self, settled: Vec<Settlement>) -> (Vec<Settlement>, Option<StopReason>) {
        if self.mode == Mode::Closed {
            return (settled, None);
        }
        if !self.is_holding() && settled.iter().all(|settlement| settlement.result().rejection().is_none()) {
            // Nearly every batch.
            if settled.iter().any(|settlement| settlement.result().outcome().is_success()) {
                (self.canary, self.refusal) = (None, None);
            }
            return (settled, None);
        }
        let (mut released, mut stop) = (Vec::with_capacity(settled.len()), None);
        for settlement in settled {
            match Refusal::of(&settlement) {
                Some(_) if self.mode == Mode::Stopped => released.push(settlement.into_pending()),
                Some(refusal) if self.is_suspect(&refusal) => {
                    self.refusal = Some(refusal.common(self.refusal.take()));
                    self.held.push(settlement);
                    stop = stop.or(self.stop(&mut released));
                }
                Some(_) => released.push(settlement),
                None => {
                    if settlement.result().outcome().is_success() {
                        self.canary = None;
                        self.release(&mut released);
                    }
                    released.push(settlement);
                }
            }
            if self.mode == Mode::Watching && self.canary.is_none() && !self.is_of_the_forbidden() {
                self.release(&mut released);
            }
        }
        (released, stop)
    }

    /// Returns the settlements held back at the end of the run: as they are, or as pending if the run was stopped.
    pub(super) fn close(&mut self, completed: bool) -> Vec<Settlement> {
        self.mode = Mode::Closed;
        let held = std::mem::take(&mut self.held).into_iter();
        if completed { held.collect() } else { held.map(Settlement::into_pending).collect() }
    }

    /// Whether a refusal must be held back. A refusal that differs from the previous ones ends the canary.
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

    fn release(&mut self, released: &mut Vec<Settlement>) {
        released.append(&mut self.held);
        self.refusal = None;
    }

    /// The reason to stop the run, if enough refusals are held back; their rows become pending.
    fn stop(&mut self, released: &mut Vec<Settlement>) -> Option<StopReason> {
        let refusal = self.refusal.as_ref()?;
        let stop = if refusal.status == 403 && self.held.len() >= FORBIDDEN_ROWS {
            StopReason::Halt(Halt::Forbidden(refusal.describe()))
        } else if self.canary.is_some_and(|most| self.held.len() as u64 >= most.get()) {
            StopReason::Canary { rows: self.held.len() as u64, refusal: refusal.describe() }
        } else {
            return None;
        };
        self.mode = Mode::Stopped;
        released.extend(std::mem::take(&mut self.held).into_iter().map(Settlement::into_pending));
        Some(stop)
    }
}
