//! Whether the customers API answers at the base URL at all.
//!
//! An intermediary (a firewall, a router, another server under a mistyped URL) may answer in the API's place. Once the API
//! itself has answered, such responses are temporary. Where only intermediaries ever answered, no row will succeed, and
//! waiting would never end.
//!
//! Decides nothing about a row. The lock is held for a comparison, never across an await.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Halt,
    verdict::{Step, is_of_the_api},
};
use crate::api::Reply;

/// Fewer responses of intermediaries are no sign yet: a firewall may reject one row alone.
const FOREIGN_MIN: u32 = 4;

/// This many are a sign at once.
const FOREIGN_MAX: u32 = 40;

/// How long intermediaries may answer before the API first does: a router that is being reconfigured, for instance.
const FOREIGN_FOR: Duration = Duration::from_secs(10);

/// Who has answered so far.
#[derive(Default)]
pub(super) struct Endpoint {
    api_has_answered: AtomicBool,
    /// A proxy refuses the login. Also the probe of an outage is told so, which belongs to no row.
    wants_proxy_login: AtomicBool,
    foreign: Mutex<Option<ForeignAnswers>>,
}

/// Responses of intermediaries before the API first answered.
struct ForeignAnswers {
    since: Instant,
    count: u32,
    last_status: u16,
}

impl Endpoint {
    pub(super) fn observe(&self, step: Step, reply: &Reply) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Only the probe of an outage may be told so: no row is sent that could end the run.
    #[test]
    fn a_refused_login_of_the_proxy_ends_a_run_that_the_api_had_answered() {
        let endpoint = Endpoint::default();
        endpoint.api_has_answered.store(true, Relaxed);
        let get = Step::Get { already_exists: false };
        endpoint.observe(get, &Reply::NotSent("refused".into()));
        assert_eq!(endpoint.halt(), None);
        endpoint.observe(get, &Reply::ProxyLogin("the proxy refuses".into()));
        assert_eq!(endpoint.halt(), Some(Halt::Proxy));
    }
}
