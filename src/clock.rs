//! The wall clock of this process, without its steps backwards.
//!
//! The time of a claim is compared with the creation time that the API reports, to decide whether this claim or someone
//! else created the customer. If the clock of the machine were set back between the two, the customer would seem older
//! than its claim. So a step backwards is ignored until the process ends, and time advances with the monotonic clock. A
//! step forwards is followed, because it only makes claims seem older, which is harmless.

use std::{
    sync::{Mutex, PoisonError},
    time::{Instant, SystemTime},
};

static CLOCK: Mutex<Clock> = Mutex::new(Clock { latest: None });

/// The time. It never goes backwards in this process.
#[expect(clippy::disallowed_methods, reason = "the clock enters here")]
pub fn now() -> SystemTime {
    let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    // The wall clock is read first: the time between the two readings must not count as a step.
    let wall = SystemTime::now();
    clock.read(wall, Instant::now())
}

#[derive(Debug)]
struct Clock {
    /// The last returned time, and the monotonic time of that call.
    latest: Option<(SystemTime, Instant)>,
}

impl Clock {
    fn read(&mut self, wall: SystemTime, instant: Instant) -> SystemTime {
        let expected = self.latest.and_then(|(then, since)| {
            // None if the time cannot be represented.
            then.checked_add(instant.saturating_duration_since(since))
        });
        let now = expected.map_or(wall, |expected| expected.max(wall));
        self.latest = Some((now, instant));
        now
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_goes_on_at_its_pace_when_the_clock_is_set_back_and_follows_it_forwards() {
        let (begin, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
        let mut clock = Clock { latest: None };
        let mut at = |seconds: u64, wall: SystemTime| {
            let read = clock.read(wall, begin + Duration::from_secs(seconds));
            read.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64 - 1_000_000
        };
        assert_eq!(at(0, wall), 0);
        assert_eq!(at(5, wall - Duration::from_secs(3600)), 5, "an hour back");
        assert_eq!(at(9, SystemTime::UNIX_EPOCH), 9, "1970");
        assert_eq!(at(10, wall + Duration::from_secs(86_400)), 86_400, "a day ahead");
        assert_eq!(at(12, wall + Duration::from_secs(12)), 86_402, "and back");
    }
}
