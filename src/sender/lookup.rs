//! Looks up one customer, with the same attempts and throttle as a row that is sent.
//!
//! Neither claims nor settles: the caller uses the result.

use super::{
    Halt, Sender,
    attempts::{AttemptResult, Attempts, RunEnded},
    verdict::{History, Step, Verdict, verdict},
};
use crate::{
    api::{Found, Reply, Whose},
    customer::{Fingerprint, Reference},
    throttle::Slot,
};

/// The result of looking a customer up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The customer exists.
    Found {
        /// Its customer id.
        customer_id: String,
        /// Its fields.
        facts: Fingerprint,
    },
    /// The customer does not exist.
    Missing,
    /// All attempts have failed.
    Unanswered,
    /// The run ended first.
    Ended,
    /// No lookup can succeed.
    Halted(Halt),
}

/// Sends Get until there is an answer. Releases the slot between attempts.
pub async fn lookup(sender: &Sender, reference: &Reference, slot: Slot) -> Lookup {
    until_answered(sender, reference, slot).await.unwrap_or(Lookup::Ended)
}

async fn until_answered(sender: &Sender, reference: &Reference, slot: Slot) -> Result<Lookup, RunEnded> {
    const GET: Step = Step::Get { already_exists: false };
    let mut attempts = Attempts::new(sender, slot, History::default());
    loop {
        let get = |timeout| sender.api.get(reference, timeout);
        let (reply, classification) = match attempts.request(GET, get).await? {
            AttemptResult::Reply(reply, classification) => (reply, classification),
            AttemptResult::Exhausted => return Ok(Lookup::Unanswered),
        };
        if let Some(found) = found(&reply) {
            return Ok(found);
        }
        match verdict(GET, attempts.history, &reply, classification) {
            // The reply has no reference, or the reference is the id of another customer.
            Verdict::Settle(_) => return Ok(Lookup::Unanswered),
            Verdict::Halt(Halt::Credentials(_)) if attempts.has_another_key() => {}
            Verdict::Halt(halt) => return Ok(Lookup::Halted(halt)),
            Verdict::Next(_) => return Ok(Lookup::Missing),
            Verdict::Pause => attempts.after_throttled(GET, &reply).await?,
            Verdict::Retry(_) => attempts.after_failure(GET, &reply).await?,
        }
    }
}

/// The customer, even if the API spells the reference differently.
fn found(reply: &Reply) -> Option<Lookup> {
    match reply {
        Reply::Customer(Found {
            customer_id, whose: Whose::Requested | Whose::Respelled(_), facts, ..
        }) => {
            let (customer_id, facts) = (customer_id.to_string(), facts.unwrap_or_default());
            Some(Lookup::Found { customer_id, facts })
        }
        _ => None,
    }
}
