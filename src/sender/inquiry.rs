//! Asking after one customer, with the patience and the pace of a row that is sent.
//!
//! Nothing is claimed and nothing settled: what comes back is for who asked.

use super::{
    Halt, Sender, Slot,
    verdict::{Past, Step, Verdict, trouble_of, verdict},
    walk::{Asked, Walk},
};
use crate::{
    api::Reply,
    customer::{Fingerprint, Reference},
};

/// What was found out about a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inquiry {
    /// It is there.
    Found {
        /// Under this `cst_` id.
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
            match verdict(ASK, Past::default(), &reply, reference) {
                Verdict::Settle(_) => {
                    return match reply {
                        Reply::Customer { customer_id, facts: Some(facts), .. } => {
                            Inquiry::Found { customer_id: customer_id.to_string(), facts }
                        }
                        // It does not say whose it is.
                        _ => Inquiry::Unanswered,
                    };
                }
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
