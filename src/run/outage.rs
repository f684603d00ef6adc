//! Logs an outage: that all requests wait and why, again when the reason changes, and when it is over.
//!
//! Logged as a warning, because most reasons require somebody to act, and the run logs nothing else for minutes.
//! Reasons that alternate (a proxy that is unreachable and overloaded in turn) are not logged at each probe.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::warn;

use crate::sender::{Contact, Sender};

/// A reason that this outage had before is logged again only after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Number of reasons remembered per outage; further ones are not logged.
const CAUSES_MAX: usize = 16;

/// Whether all requests wait for the API: during an outage, and from the first failure on as long as nothing has been
/// reached, because the host may be wrong.
pub(super) fn is_waiting(sender: &Sender) -> bool {
    sender.throttle().in_outage() || sender.contact() == Contact::Unreached
}

/// Why all requests wait for the API, if they do.
pub fn waiting_cause(sender: &Sender) -> Option<Arc<str>> {
    is_waiting(sender).then(|| sender.last_cause())
}

/// The current outage, if there is one.
#[derive(Default)]
pub(crate) struct OutageLog {
    current: Option<Current>,
}

struct Current {
    since: Instant,
    cause: Arc<str>,
    /// Each logged reason, with the time of its last log line.
    logged: Vec<(Arc<str>, Instant)>,
}

impl OutageLog {
    /// Detects that an outage has begun, has changed its reason or is over, and logs that. Called at each tick.
    pub(crate) fn observe(&mut self, sender: &Sender, now: Instant) {
        let cause = waiting_cause(sender);
        match (&mut self.current, cause) {
            (None, None) => {}
            (None, Some(cause)) => {
                if sender.contact() < Contact::Answered {
                    warn!(%cause, "no response yet; the run stops if none comes within --outage-limit, at most 30 s");
                } else {
                    warn!(%cause, "no valid response; all requests wait until the API is back");
                }
                self.current = Some(Current { since: now, logged: vec![(Arc::clone(&cause), now)], cause });
            }
            (Some(current), Some(cause)) => {
                if current.is_to_be_logged(&cause, now) {
                    warn!(%cause, "still no valid response, for another reason");
                }
            }
            (Some(current), None) => {
                let seconds = (now - current.since).as_secs();
                warn!(seconds, "the API is back; the run continues");
                self.current = None;
            }
        }
    }

    /// Why all requests wait, if they do.
    pub(crate) fn cause(&self) -> Option<Arc<str>> {
        self.current.as_ref().map(|current| Arc::clone(&current.cause))
    }
}

impl Current {
    /// Records the current reason, and returns whether it should be logged.
    fn is_to_be_logged(&mut self, cause: &Arc<str>, now: Instant) -> bool {
        if self.cause == *cause {
            return false;
        }
        self.cause = Arc::clone(cause);
        match self.logged.iter_mut().find(|(logged, _)| logged == cause) {
            Some((_, at)) if now - *at < AGAIN_AFTER => false,
            Some((_, at)) => {
                *at = now;
                true
            }
            None => {
                let is_new = self.logged.len() < CAUSES_MAX;
                if is_new {
                    self.logged.push((Arc::clone(cause), now));
                }
                is_new
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_take_turns_are_said_once_a_minute() {
        let began = Instant::now();
        let [refused, unavailable]: [Arc<str>; 2] = ["connection refused".into(), "HTTP 503".into()];
        let mut current = Current {
            since: began,
            cause: Arc::clone(&refused),
            logged: vec![(Arc::clone(&refused), began)],
        };
        let mut logged = Vec::new();
        for second in 1..=130_u64 {
            let cause = if second % 2 == 0 { &refused } else { &unavailable };
            if current.is_to_be_logged(cause, began + Duration::from_secs(second)) {
                logged.push(second);
            }
            assert_eq!(current.cause, *cause);
        }
        assert_eq!(logged, [1, 60, 61, 120, 121]);
        for number in 0..100 {
            current.is_to_be_logged(&format!("HTTP {number}").into(), began);
        }
        assert_eq!(current.logged.len(), CAUSES_MAX);
    }
}
