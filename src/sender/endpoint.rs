//! Whether the customers API is behind the address at all.
//!
//! Something in between (a firewall, a router, another server under a mistyped URL) may answer in the API's place.
//! Once the API itself was heard such answers pass; where only others ever answered, no row will succeed, and to wait
//! for an end of it would be to wait for nothing.
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

/// Fewer answers by others are no sign yet: one row alone may be what a firewall does not like.
const STRANGERS_MIN: u32 = 4;

/// So many are one at once.
const STRANGERS_MAX: u32 = 40;

/// For so long something else may answer before the API is first heard: a router that is being set up again, say.
const PATIENCE: Duration = Duration::from_secs(10);

/// What has answered so far.
#[derive(Default)]
pub(super) struct Address {
    api_was_heard: AtomicBool,
    strangers: Mutex<Option<Strangers>>,
}

/// Answers that others gave before the API was heard.
struct Strangers {
    since: Instant,
    count: u32,
    /// Of the last one.
    status: u16,
}

impl Address {
    /// Takes in a reply.
    pub(super) fn note(&self, step: Step, reply: &Reply) {
        if self.api_was_heard() {
            return;
        }
        if is_of_the_api(step, reply) {
            self.api_was_heard.store(true, Relaxed);
        } else if let Reply::Foreign(answer) = reply
            && answer.status < 500
        {
            let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
            let all = strangers.get_or_insert(Strangers { since: Instant::now(), count: 0, status: 0 });
            (all.count, all.status) = (all.count.saturating_add(1), answer.status);
        }
    }

    /// Whether the API itself has answered.
    pub(super) fn api_was_heard(&self) -> bool {
        self.api_was_heard.load(Relaxed)
    }

    /// Why no row can succeed, where nothing but others ever answered.
    pub(super) fn halt(&self) -> Option<Halt> {
        if self.api_was_heard() {
            return None;
        }
        let strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let all = strangers.as_ref()?;
        let is_long = all.count >= STRANGERS_MIN && all.since.elapsed() >= PATIENCE;
        (is_long || all.count >= STRANGERS_MAX).then_some(Halt::NotTheApi(all.status))
    }
}
