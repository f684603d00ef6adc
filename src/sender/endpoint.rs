//! Who has responded at the base URL so far.
//!
//! An intermediary (a firewall, a router, another server under a mistyped URL) may respond in the API's place. Once
//! the API itself has responded, such responses are temporary. If only intermediaries have ever responded, no row
//! will succeed, and waiting would never end: the one verdict that no single reply allows.
//!
//! Never waits: the lock is held for a comparison, never across an await.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::verdict::{Halt, Step, is_about_the_row};
use crate::api::Reply;

/// Fewer responses of intermediaries prove nothing: a firewall may refuse one row alone.
const FOREIGN_MIN: u32 = 4;

/// This many responses of intermediaries are proof at once.
const FOREIGN_MAX: u32 = 40;

/// How long only intermediaries may respond before the URL counts as wrong: a router may be in the middle of a
/// reconfiguration.
const FOREIGN_FOR: Duration = Duration::from_secs(10);

/// What the replies to all rows show about the base URL.
#[derive(Default)]
pub(super) struct Endpoint {
    /// A [`Contact`].
    contact: AtomicU8,
    api_has_answered: AtomicBool,
    /// Whether a proxy refuses the login. Also set by the probe of an outage, which belongs to no row.
    wants_proxy_login: AtomicBool,
    foreign: Mutex<Option<ForeignAnswers>>,
}

/// How far any request of a run has got, whoever responded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Contact {
    /// No request has ended.
    Untried,
    /// No request could be sent: unknown host, no connection, no TLS.
    Unreached,
    /// Requests were sent, but none got a response.
    Unanswered,
    /// There was a response, whatever its content.
    Answered,
}

impl Contact {
    const ALL: [Contact; 4] = [Contact::Untried, Contact::Unreached, Contact::Unanswered, Contact::Answered];

    fn of(reply: &Reply) -> Contact {
        match reply {
            Reply::NotSent(_) | Reply::ProxyLogin(_) => Contact::Unreached,
            Reply::Unknown { status: None, .. } => Contact::Unanswered,
            Reply::Unknown { .. } | Reply::Customer(_) | Reply::Answer(_) | Reply::Foreign(_) => {
                Contact::Answered
            }
        }
    }
}

/// Responses of intermediaries before the API first answered.
struct ForeignAnswers {
    since: Instant,
    count: u32,
    last_status: u16,
}

impl Endpoint {
    pub(super) fn observe(&self, step: Step, reply: &Reply) {
        self.contact.fetch_max(Contact::of(reply) as u8, Relaxed);
        if matches!(reply, Reply::ProxyLogin(_))
            || matches!(reply, Reply::Foreign(answer) if answer.status == 407)
        {
            self.wants_proxy_login.store(true, Relaxed);
        }
        if self.api_has_answered() {
            return;
        }
        if is_of_the_api(step, reply) {
            self.api_has_answered.store(true, Relaxed);
        } else if let Reply::Foreign(answer) = reply
            && answer.status < 500
        {
            let mut foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
            let all =
                foreign.get_or_insert(ForeignAnswers { since: Instant::now(), count: 0, last_status: 0 });
            all.count = all.count.saturating_add(1);
            all.last_status = answer.status;
        }
    }

    pub(super) fn contact(&self) -> Contact {
        let reached = self.contact.load(Relaxed);
        Contact::ALL.into_iter().find(|contact| *contact as u8 == reached).unwrap_or(Contact::Untried)
    }

    pub(super) fn api_has_answered(&self) -> bool {
        self.api_has_answered.load(Relaxed)
    }

    /// Why no row can succeed, if a proxy refuses the login or only intermediaries ever answered.
    pub(super) fn halt(&self) -> Option<Halt> {
        if self.wants_proxy_login.load(Relaxed) {
            return Some(Halt::Proxy);
        }
        if self.api_has_answered() {
            return None;
        }
        let foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        let all = foreign.as_ref()?;
        let is_long = all.count >= FOREIGN_MIN && all.since.elapsed() >= FOREIGN_FOR;
        (is_long || all.count >= FOREIGN_MAX).then_some(Halt::NotTheApi(all.last_status))
    }
}

/// Whether the reply proves that the API itself has responded. A reply to Get proves little: any server responds with
/// "not found" to an unknown path.
fn is_of_the_api(step: Step, reply: &Reply) -> bool {
    match reply {
        Reply::Customer(_) => true,
        Reply::Answer(answer) => {
            let is_access_control = matches!(answer.status, 401 | 403 | 404 | 405 | 407 | 429);
            step.is_write() && is_about_the_row(answer.status) && !is_access_control
        }
        Reply::Foreign(_) | Reply::NotSent(_) | Reply::ProxyLogin(_) | Reply::Unknown { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only the probe of an outage may get this reply: no row is being sent that could end the run.
    #[test]
    fn a_refused_login_of_the_proxy_ends_a_run_that_the_api_had_answered() {
        let get = Step::Get { already_exists: false };
        let endpoint = Endpoint::default();
        endpoint.api_has_answered.store(true, Relaxed);
        endpoint.observe(get, &Reply::NotSent("refused".into()));
        assert_eq!(endpoint.halt(), None);
        endpoint.observe(get, &Reply::ProxyLogin("the proxy refuses".into()));
        assert_eq!(endpoint.halt(), Some(Halt::Proxy));
    }
}
