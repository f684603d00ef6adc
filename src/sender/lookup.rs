//! Asking after one customer, with the patience and the pace of a row that is sent.
//!
//! Nothing is claimed and nothing settled: what comes back is for who asked.

use super::{
    Halt, Sender,
    attempts::{Asked, Walk},
    verdict::{Past, Step, Verdict, trouble_of, verdict},
};
use crate::{
    api::{Found, Reply, Whose},
    customer::{Fingerprint, Reference},
    throttle::Slot,
};

/// What was found out about a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inquiry {
    /// It is there.
    Found {
        /// Under this customer id.
        customer_id: String,
        /// With these fields.
        facts: Fingerprint,
    },
    /// The API knows no such customer.
    Missing,
    /// Attempts used up.
    Unanswered,
    /// The run has ended before.
    Ended,
    /// No question can be answered.
    Halted(Halt),
}

impl Sender {
    /// Asks until there is an answer. The slot is given back while the question waits to be asked again.
    pub async fn inquire(&self, reference: &Reference, slot: Slot) -> Inquiry {
        const ASK: Step = Step::Get { told: false };
        let mut walk = Walk::new(self, slot, Past::default());
        loop {
            let reply = match walk.ask(ASK, self.api.get(reference)).await {
                Asked::Reply(reply) => reply,
                Asked::UsedUp => return Inquiry::Unanswered,
                Asked::Ended => return Inquiry::Ended,
            };
            if let Some(found) = found(&reply) {
                return found;
            }
            match verdict(ASK, walk.past(), &reply) {
                // An answer that does not say whose it is, or that this reference is somebody's id.
                Verdict::Settle(_) => return Inquiry::Unanswered,
                Verdict::Halt(halt) => return Inquiry::Halted(halt),
                Verdict::Next(_) => return Inquiry::Missing,
                Verdict::Pause => {
                    if !walk.refused().await {
                        return Inquiry::Ended;
                    }
                }
                Verdict::Retry(_) => {
                    walk.trouble = trouble_of(&reply);
                    walk.count(ASK);
                    if !walk.wait().await {
                        return Inquiry::Ended;
                    }
                }
            }
        }
    }
}

/// The customer, also under another api_reference of the reference.
fn found(reply: &Reply) -> Option<Inquiry> {
    match reply {
        Reply::Customer(Found { customer_id, whose: Whose::Asked | Whose::Respelled(_), facts, .. }) => {
            let (customer_id, facts) = (customer_id.to_string(), facts.unwrap_or_default());
            Some(Inquiry::Found { customer_id, facts })
        }
        _ => None,
    }
}
