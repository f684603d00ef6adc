//! One rate for all workers of a run: hands out the moments at which requests may be sent, and stores what the workers
//! have found out about the API's limit.
//!
//! A row of the ledger has the time until which moments are reserved (GCRA, the generic cell rate algorithm). One
//! statement reserves the next moments, so that each moment is reserved once. Only workers that are alive get moments.
//! The clock is the server's; its moments are converted to the local clock by the quickest recent exchange. What is known
//! about the limit is stored in the same row, unless another worker has stored something since it was read (compare and
//! swap).
//!
//! The table is unlogged, so that no reservation waits for the disk. After a crash of the server the table is empty, and
//! reservations begin one second ahead: by then, the moments reserved before the crash have passed. The limit must be
//! found again.

use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _, postgres::PgConnection};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::{
    super::{
        error::Error,
        location::Location,
        rate_reserver::{NewRate, ReservedMoments, StoredRate},
    },
    connection::timed_out,
    failure::{Failure, is_refusal},
    server::Server,
    statements::{BEGIN_RATE, BEGIN_RATE_TRANSACTION, SELECT_RATE, STORE_RATE, TAKE_MOMENTS},
};

/// Moments are reserved at least this far ahead, in seconds: the reply takes some time.
const LEAD: f64 = 0.001;

/// The part of an exchange that this lead covers, and the time for which a moment may be late anyway.
const COVERED: f64 = 0.002;

/// The share of an exchange until its answer has arrived, with some more because not all of them take the same time.
const ANSWER_SHARE: f64 = 0.625;

/// No moment is further ahead than the longest pause, apart from those that workers have reserved, in seconds.
const AHEAD_MAX: f64 = 300.0;

/// By how much the clocks may disagree about an exchange, apart from what the exchange itself leaves open.
const CLOCK_SLACK: Duration = Duration::from_millis(1);

/// How long the quickest exchange counts.
const CLOCK_FOR: Duration = Duration::from_secs(10);

/// How long one statement may take at first. The time doubles with each failure: the server does not notice that the
/// client has given up a statement that waits for a lock, so each attempt may occupy a connection of the server.
const STATEMENT_MAX: Duration = Duration::from_secs(5);
const STATEMENT_DOUBLINGS_MAX: u32 = 3;

/// The pause before another attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// What was found out counts for this time without a request, in seconds. A run that begins alone forgets it at once.
const STATE_FOR: f64 = 60.0;

/// Reserves moments for one process, over a connection of its own: a commit must not delay requests.
pub(crate) struct RateReserver {
    server: Server,
    holder: Holder,
    /// How long moments may be impossible to reserve.
    outage_limit: Duration,
    connection: Option<PgConnection>,
    clock: Option<Clock>,
    /// How long an exchange takes, as a moving average.
    exchange: Option<Duration>,
    /// The interval that was last found, in seconds.
    interval: f64,
    since_success: SinceSuccess,
}

/// What has happened since moments were last reserved.
#[derive(Default)]
struct SinceSuccess {
    /// Since when no moments could be reserved.
    failing_since: Option<Instant>,
    /// Number of attempts that have failed.
    failures: u32,
    /// Whether a connection was made: the server is there.
    is_reached: bool,
    is_outage_logged: bool,
}

/// For whom moments are reserved.
#[derive(Clone, Copy)]
pub(super) enum Holder {
    /// The worker of this id.
    Worker(i64),
    /// A command beside runs.
    Command,
}

impl Holder {
    fn worker(self) -> Option<i64> {
        match self {
            Holder::Worker(id) => Some(id),
            Holder::Command => None,
        }
    }
}

/// The moment of the local clock at which the server's clock showed this time, as the exchange of this length found it.
#[derive(Clone, Copy)]
struct Clock {
    at: Instant,
    server_seconds: f64,
    took: Duration,
}

impl RateReserver {
    /// The server may be unreachable for `outage_limit`.
    pub(super) fn new(server: &Server, holder: Holder, outage_limit: Duration) -> RateReserver {
        RateReserver {
            server: server.clone(),
            holder,
            outage_limit,
            connection: None,
            clock: None,
            exchange: None,
            interval: 0.0,
            since_success: SinceSuccess::default(),
        }
    }

    /// Reserves moments for a command that is no worker. The server may be unreachable for `outage_limit`.
    ///
    /// # Errors
    /// If no moments can be reserved, such as on a standby or without the right to write.
    pub(crate) async fn beside_runs(server: &Server, outage_limit: Duration) -> Result<RateReserver, Error> {
        let mut reserver = RateReserver::new(server, Holder::Command, outage_limit);
        match timeout(STATEMENT_MAX, reserver.take(0, Duration::ZERO, 1)).await {
            Ok(Ok(_)) => Ok(reserver),
            Ok(Err(error)) => Err(reserver.error(error.into())),
            Err(_) => Err(reserver.error(timed_out().into())),
        }
    }

    fn error(&self, error: Failure) -> Error {
        Error::Postgres { ledger: Location::Postgres(Box::new(self.server.clone())), error }
    }

    /// Reserves `count` moments that are at least `interval` apart, of which `burst` may be at once after idle time. Waits
    /// while the server is unreachable. None if the worker no longer counts as alive, and so must not send.
    ///
    /// # Errors
    /// If no moments could be reserved for too long, or the server refuses.
    pub(crate) async fn reserve(
        &mut self,
        count: u32,
        interval: Duration,
        burst: u32,
    ) -> Result<Option<ReservedMoments>, Error> {
        loop {
            let taken = timeout(self.statement_max(), self.take(count, interval, burst)).await;
            match taken.unwrap_or_else(|_| Err(timed_out())) {
                Ok(Taken::Moments(moments)) => {
                    self.on_success();
                    return Ok(Some(moments));
                }
                Ok(Taken::NotAlive) => return Ok(None),
                Ok(Taken::Begun) => {}
                Err(error) => {
                    self.on_failure(&error);
                    self.check_outage(error)?;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// How long the next statement may take: not much longer than the server may be unreachable.
    fn statement_max(&self) -> Duration {
        let SinceSuccess { failing_since, failures, .. } = self.since_success;
        let longest = STATEMENT_MAX * 2_u32.pow(failures.min(STATEMENT_DOUBLINGS_MAX));
        let failing = failing_since.map(|since| since.elapsed()).unwrap_or_default();
        longest.min(self.outage_limit.saturating_sub(failing).max(PAUSE))
    }

    fn on_success(&mut self) {
        if std::mem::take(&mut self.since_success).is_outage_logged {
            info!("requests are sent again");
        }
    }

    fn on_failure(&mut self, error: &sqlx::Error) {
        debug!(%error, "no moments can be reserved, or the rate cannot be stored");
        self.connection = None;
        self.since_success.failures += 1;
    }

    /// Logs that no moments can be reserved, once. If the server cannot be reached, a worker's commits warn of that.
    fn check_outage(&mut self, error: sqlx::Error) -> Result<(), Error> {
        let since = *self.since_success.failing_since.get_or_insert_with(Instant::now);
        if is_refusal(&error) {
            return Err(self.error(error.into()));
        }
        if since.elapsed() >= self.outage_limit {
            return Err(self.error(Failure::Unreachable(self.outage_limit, Failure::from(error).to_string())));
        }
        match self.holder {
            _ if self.since_success.is_outage_logged => return Ok(()),
            Holder::Command => warn!(%error, "the ledger is unreachable; nothing is sent until it is back"),
            Holder::Worker(_) if self.since_success.is_reached => {
                warn!(%error, "the ledger gives no moments for requests (table rate); nothing is sent until it does");
            }
            Holder::Worker(_) => return Ok(()),
        }
        self.since_success.is_outage_logged = true;
        Ok(())
    }

    /// Stores what `change` makes of the stored rate. Returns whether the result of its last call is stored: not if the
    /// server is unreachable or the worker no longer counts as alive.
    pub(crate) async fn store(&mut self, mut change: impl FnMut(&StoredRate) -> NewRate) -> bool {
        loop {
            let stored = timeout(self.statement_max(), self.try_store(&mut change)).await;
            match stored.unwrap_or_else(|_| Err(timed_out())) {
                Ok(Stored::Yes) => return true,
                Ok(Stored::NotAlive) => return false,
                Ok(Stored::Overtaken) => {}
                Err(error) => {
                    self.on_failure(&error);
                    return false;
                }
            }
        }
    }

    async fn take(&mut self, count: u32, interval: Duration, burst: u32) -> Result<Taken, sqlx::Error> {
        let mut connection = self.connect().await?;
        let own = interval.as_secs_f64();
        let ahead = self.ahead();
        let lead = ahead - f64::from(burst.saturating_sub(1)) * own;
        let values = [self.worker(), number(lead), number(f64::from(count)), number(own), number(AHEAD_MAX)];
        let message = self.transaction(TAKE_MOMENTS, &values);
        let sent_at = Instant::now();
        let row = sqlx::raw_sql(message).fetch_all(&mut connection).await?.pop();
        let row = row.ok_or(sqlx::Error::RowNotFound)?;
        let (end, found, now, is_alive, workers): (Option<f64>, Option<f64>, f64, bool, i64) =
            (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
        let taken = match (end, is_alive) {
            (_, false) => Taken::NotAlive,
            (None, true) => {
                self.begin(&mut connection).await?;
                Taken::Begun
            }
            (Some(end), true) => {
                self.interval = found.unwrap_or_default();
                let clock = self.adjust(sent_at, now);
                let interval = self.interval.max(own);
                // The moments of a burst have passed.
                let moment = |at: u32| clock.local((end - f64::from(count - at) * interval).max(now + ahead));
                let moments = (0..count).map(moment).collect();
                let interval = Duration::try_from_secs_f64(interval).unwrap_or_default();
                let workers = u32::try_from(workers).unwrap_or(u32::MAX);
                let took = self.exchange.unwrap_or_default();
                Taken::Moments(ReservedMoments { moments, interval, workers, took })
            }
        };
        self.connection = Some(connection);
        Ok(taken)
    }

    async fn try_store(
        &mut self,
        change: &mut impl FnMut(&StoredRate) -> NewRate,
    ) -> Result<Stored, sqlx::Error> {
        let mut connection = self.connect().await?;
        let message = self.transaction(SELECT_RATE, &[self.worker()]);
        let sent_at = Instant::now();
        let Some(row) = sqlx::raw_sql(message).fetch_all(&mut connection).await?.pop() else {
            self.begin(&mut connection).await?;
            self.connection = Some(connection);
            return Ok(Stored::Overtaken);
        };
        if !row.get::<bool, _>(5) {
            return Ok(Stored::NotAlive);
        }
        let (state, version, began, given_until, now): (Option<String>, i64, f64, f64, f64) =
            (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
        let clock = self.adjust(sent_at, now);
        let state = state.filter(|_| given_until > now - STATE_FOR);
        let began = if state.is_some() { began } else { now };
        let (moment, reserved_until) = (clock.local(now), clock.local(given_until));
        let new = change(&StoredRate { state, moment, seconds: now - began, reserved_until });
        self.interval = new.interval.as_secs_f64();
        let paused_until = new.paused_until.map_or(0.0, |moment| clock.server(moment));
        let message = self.transaction(
            STORE_RATE,
            &[
                self.worker(),
                version.to_string(),
                text(&new.state),
                number(began),
                number(self.interval),
                number(paused_until),
            ],
        );
        let is_stored = sqlx::raw_sql(message).execute(&mut connection).await?.rows_affected() > 0;
        self.connection = Some(connection);
        Ok(if is_stored { Stored::Yes } else { Stored::Overtaken })
    }

    async fn connect(&mut self) -> Result<PgConnection, sqlx::Error> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => {
                let connection = self.server.options().connect().await?;
                self.since_success.is_reached = true;
                Ok(connection)
            }
        }
    }

    async fn begin(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let message = self.transaction(BEGIN_RATE, &[number(self.interval)]);
        sqlx::raw_sql(message).execute(connection).await.map(drop)
    }

    /// The statement with its values as one message of a whole transaction. A pooler may give the connection to another
    /// client between two messages outside a transaction, and a statement without a name is then another client's.
    fn transaction(&self, sql: &str, values: &[String]) -> AssertSqlSafe<String> {
        let statement = values
            .iter()
            .enumerate()
            .fold(sql.to_owned(), |statement, (at, value)| statement.replace(&format!("${}", at + 1), value));
        AssertSqlSafe(self.server.with_schema(&format!("{BEGIN_RATE_TRANSACTION}; {statement}; commit")))
    }

    /// The id of the worker as a value of a statement.
    fn worker(&self) -> String {
        self.holder.worker().map_or_else(|| "null::bigint".into(), |id| format!("{id}::bigint"))
    }

    /// How much ahead of the server's clock a moment must be at least, so that it has not passed when its answer arrives, in
    /// seconds: more if the server is far away.
    fn ahead(&self) -> f64 {
        let answer = self.exchange.unwrap_or_default().as_secs_f64() * ANSWER_SHARE;
        LEAD + (answer - COVERED).max(0.0)
    }

    /// The clock after an exchange in which the server's clock was read: the one of the quickest recent exchange, unless
    /// this exchange contradicts it.
    fn adjust(&mut self, sent_at: Instant, server_seconds: f64) -> Clock {
        let took = sent_at.elapsed();
        self.exchange = Some(average(self.exchange, took));
        let new = Clock { at: sent_at + took / 2, server_seconds, took };
        let best = self.clock.filter(|clock| clock.took < took && clock.at.elapsed() < CLOCK_FOR);
        let best = best.filter(|clock| clock.agrees(sent_at, took, server_seconds));
        *self.clock.insert(best.unwrap_or(new))
    }
}

/// The number as a value of a statement.
fn number(value: f64) -> String {
    format!("'{value:?}'::float8")
}

/// The text as a value of a statement, in a form that means the same under all settings of the server.
fn text(value: &str) -> String {
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("convert_from(decode('{hex}', 'hex'), 'UTF8')")
}

/// The moving average of the times that exchanges take. One that had to wait for something changes little.
fn average(before: Option<Duration>, took: Duration) -> Duration {
    before.map_or(took, |before| (3 * before + took.min(2 * before + Duration::from_millis(20))) / 4)
}

enum Taken {
    Moments(ReservedMoments),
    /// The table was empty.
    Begun,
    NotAlive,
}

enum Stored {
    Yes,
    /// Not: another worker has stored a rate meanwhile, or the table was empty.
    Overtaken,
    NotAlive,
}

impl Clock {
    /// Whether the server's clock may have shown this time in the exchange. Otherwise, one of the clocks was set, or one of
    /// the machines was suspended.
    fn agrees(&self, sent_at: Instant, took: Duration, server_seconds: f64) -> bool {
        let (at, slack) = (self.local(server_seconds), self.took / 2 + CLOCK_SLACK);
        at + slack >= sent_at && at <= sent_at + took + slack
    }

    /// The local moment of this time of the server.
    fn local(&self, seconds: f64) -> Instant {
        let after = seconds - self.server_seconds;
        let duration = Duration::from_secs_f64(after.abs().min(3600.0));
        if after < 0.0 { self.at.checked_sub(duration).unwrap_or(self.at) } else { self.at + duration }
    }

    /// The time of the server at this local moment.
    fn server(&self, moment: Instant) -> f64 {
        let after = moment.saturating_duration_since(self.at).as_secs_f64();
        self.server_seconds + after - self.at.saturating_duration_since(moment).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_not_relied_on() {
        let (at, ms) = (Instant::now() + Duration::from_secs(7200), Duration::from_millis);
        let clock = Clock { at, server_seconds: 5000.0, took: ms(2) };
        let sent_at = at + Duration::from_secs(1);
        for (seconds, agrees) in [(5001.0, true), (5001.02, true), (5001.03, false), (5000.9, false)] {
            assert_eq!(clock.agrees(sent_at, ms(22), seconds), agrees, "{seconds}");
        }
        // Set forward or back, or this machine was suspended.
        assert!(!clock.agrees(sent_at, ms(22), 8600.0) && !clock.agrees(sent_at, ms(22), 1400.0));
    }

    #[test]
    fn one_long_exchange_changes_little_and_long_ones_are_followed() {
        let ms = Duration::from_millis;
        let mut exchange = average(None, ms(1));
        exchange = average(Some(exchange), ms(4000));
        assert!(exchange < ms(7), "{exchange:?}");
        for _ in 0..20 {
            exchange = average(Some(exchange), ms(200));
        }
        assert!(exchange > ms(190), "{exchange:?}");
    }
}
