//! The adaptive rate as the throttle sees it: of this process alone, or of all workers of a run.
//!
//! A rate of this process changes with each response, and the change is returned at once. A rate of several workers
//! changes with their reports: see `rate_log`.
//!
//! Pure: time is an argument, and nothing here waits.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    RemainingQuota,
    adaptive_rate::{AdaptiveRate, PAUSE_MAX, RateChange, RequestStamp, Response, Timeline},
    rate_log::{REPORT_INTERVAL, RateLog, Replay, ReplayedChange},
    shared_rate::Delay,
};

/// The adaptive rate of a run.
pub(super) struct RateControl {
    /// The rate; if it is shared, as this process has last stored it.
    rate: AdaptiveRate,
    /// What has happened since then. Set if the rate is shared.
    log: Option<RateLog>,
}

/// A request that was sent, for its response.
#[derive(Clone, Copy, Debug)]
pub(super) enum SentRequest {
    Own(RequestStamp),
    /// The number of the request in the log.
    Logged(u64),
}

impl RateControl {
    /// The rate of this process alone.
    pub(super) fn new(rate: AdaptiveRate) -> RateControl {
        RateControl { rate, log: None }
    }

    /// Makes the rate that of all workers, who know nothing of the requests until now.
    pub(super) fn share(&mut self) {
        self.log.get_or_insert_with(|| RateLog::new(self.rate.sent()));
    }

    /// Leaves room for other users of the same limit. Must be called before the first request.
    pub(super) fn be_polite(&mut self) {
        self.rate.be_polite();
    }

    /// The rate held below a limit that was found.
    pub(super) fn held_rate(&self) -> Option<f64> {
        self.rate.held_rate()
    }

    /// The rate at which the server's quota lasts.
    pub(super) fn quota_rate(&self, now: Instant) -> Option<f64> {
        self.rate.quota_rate(now)
    }

    /// Takes a token, or returns the time of the next one. A shared rate has reserved moments instead.
    pub(super) fn try_acquire(&mut self, now: Instant) -> Result<(), Instant> {
        if self.log.is_some() { Ok(()) } else { self.rate.try_acquire(now) }
    }

    /// The number of requests that this process has sent.
    pub(super) fn sent(&self) -> u64 {
        self.log.as_ref().map_or(self.rate.sent(), RateLog::sent)
    }

    /// Records a request that was sent, and whether the shared rate has delayed it.
    pub(super) fn on_send(&mut self, delay: Delay, now: Instant) -> SentRequest {
        match &mut self.log {
            None => SentRequest::Own(self.rate.on_send(now)),
            Some(log) => SentRequest::Logged(log.on_send(delay, now)),
        }
    }

    /// Handles a response. The response to a request that was sent before the rate was shared says nothing to the other
    /// workers.
    pub(super) fn on_response(&mut self, sent: SentRequest, response: Response, now: Instant) -> RateChange {
        match (&mut self.log, sent) {
            (None, SentRequest::Own(stamp)) => return self.rate.on_response(stamp, response, now),
            (Some(log), SentRequest::Logged(number)) => log.on_response(number, response, now),
            _ => {}
        }
        // A pause that the server requests does not depend on what the other workers know.
        let pause = response.signal.retry_after().map(|pause| pause.min(PAUSE_MAX));
        RateChange { pause, ..RateChange::default() }
    }

    /// The pause that the response handled last begins at a shared rate, before it is reported.
    pub(super) fn pause_before_report(&self, now: Instant) -> Option<Duration> {
        self.log.as_ref()?.pause_before_report(&self.rate, now)
    }

    /// Handles that nobody waits for the response any more.
    pub(super) fn on_abandoned(&mut self, sent: SentRequest) {
        if let (Some(log), SentRequest::Logged(number)) = (&mut self.log, sent) {
            log.on_abandoned(number);
        }
    }

    /// Records what is left of the server's quota.
    pub(super) fn on_quota(&mut self, quota: RemainingQuota, now: Instant) {
        match &mut self.log {
            None => self.rate.on_quota(quota, now),
            Some(log) => log.on_quota(quota, now),
        }
    }

    /// Whether there is something to report to the workers that share the rate.
    pub(super) fn has_events(&self) -> bool {
        self.log.as_ref().is_some_and(RateLog::has_events)
    }

    /// Replays what has happened on the rate of this state, as [`Replay::state`] returned it. Without a state, or if the
    /// state cannot be read, nothing is known yet. The moments until `reserved_until` are reserved for requests.
    pub(super) fn replay(
        &self,
        state: Option<&str>,
        timeline: Timeline,
        reserved_until: Instant,
        now: Instant,
    ) -> Replay {
        let stored = state.and_then(|state| serde_json::from_str(state).ok());
        let mut rate: AdaptiveRate = stored.unwrap_or_else(|| self.rate.afresh(now));
        rate.set_shared(timeline, REPORT_INTERVAL);
        match &self.log {
            Some(log) => log.replay(rate, reserved_until, now),
            None => RateLog::new(0).replay(rate, reserved_until, now),
        }
    }

    /// Accepts a replay that is stored. Returns what has changed.
    pub(super) fn accept(&mut self, replay: Replay) -> Vec<ReplayedChange> {
        let Some(log) = &mut self.log else { return Vec::new() };
        let (rate, changes) = log.accept(replay);
        self.rate = rate;
        changes
    }
}
