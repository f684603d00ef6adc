//! One rate for all workers of a run: hands out the moments at which requests may be sent.
//!
//! A row of the ledger says until when moments were given away (GCRA, the generic cell rate algorithm). One statement
//! takes the next ones, so that each is given once, whoever asks. Only a living worker gets any. The clock is the
//! server's; its moments are mapped to the local clock by the quickest exchange of late.
//!
//! The table is unlogged, so that no flush is waited for. After a crash of the server it is empty, and begins a second
//! ahead: what was given away before the crash is over by then.

use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _, postgres::PgConnection};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::{
    server::Server,
    statements::{BEGIN_RATE, PAUSE_RATE, TAKE_MOMENTS},
};

/// Moments are given at least so much ahead, in seconds: the answer takes its time.
const LEAD: f64 = 0.001;

/// How long the quickest exchange counts.
const CLOCK_FOR: Duration = Duration::from_secs(10);

/// How long one statement may take.
const STATEMENT_MAX: Duration = Duration::from_secs(5);

/// The pause before another attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// Reserves moments for one worker, over a connection of its own: a commit must not delay requests.
pub(crate) struct RateReserver {
    server: Server,
    worker: i64,
    connection: Option<PgConnection>,
    clock: Option<Clock>,
}

/// The moment of the local clock at which the server's clock was at zero, as the exchange of this time found it.
#[derive(Clone, Copy)]
struct Clock {
    at: Instant,
    server_seconds: f64,
    took: Duration,
}

impl RateReserver {
    pub(super) fn new(server: &Server, worker: i64) -> RateReserver {
        RateReserver { server: server.clone(), worker, connection: None, clock: None }
    }

    /// Reserves `count` moments that are `interval` apart, of which `burst` may be at once after idle time. Waits while
    /// the server is away. None if the worker is not alive any more: it must not send.
    pub(crate) async fn reserve(
        &mut self,
        count: u32,
        interval: Duration,
        burst: u32,
    ) -> Option<Vec<Instant>> {
        loop {
            let taken = timeout(STATEMENT_MAX, self.take(count, interval, burst)).await;
            match taken {
                Ok(Ok(Taken::Moments(moments))) => return Some(moments),
                Ok(Ok(Taken::NotAlive)) => return None,
                Ok(Ok(Taken::Begun)) => {}
                Ok(Err(error)) => {
                    debug!(%error, "no moments can be reserved; nothing is sent until they can");
                    self.connection = None;
                    sleep(PAUSE).await;
                }
                Err(_) => self.connection = None,
            }
        }
    }

    /// Gives no moments for so long. If the server is away, none are given anyway.
    pub(crate) async fn pause(&mut self, pause: Duration) {
        let Some(mut connection) = self.connection.take() else { return };
        let sql = AssertSqlSafe(self.server.with_schema(PAUSE_RATE));
        let query = sqlx::query(sql).persistent(false).bind(pause.as_secs_f64());
        if let Ok(Ok(_)) = timeout(STATEMENT_MAX, query.execute(&mut connection)).await {
            self.connection = Some(connection);
        }
    }

    async fn take(&mut self, count: u32, interval: Duration, burst: u32) -> Result<Taken, sqlx::Error> {
        if self.connection.is_none() {
            self.connection = Some(self.server.options().connect().await?);
        }
        let Some(mut connection) = self.connection.take() else { return Ok(Taken::Begun) };
        let interval = interval.as_secs_f64();
        let lead = LEAD - f64::from(burst.saturating_sub(1)) * interval;
        let sql = AssertSqlSafe(self.server.with_schema(TAKE_MOMENTS));
        let asked = Instant::now();
        let query = sqlx::query(sql).persistent(false).bind(self.worker).bind(lead);
        let row = query.bind(f64::from(count) * interval).fetch_one(&mut connection).await?;
        let (end, now, is_alive): (Option<f64>, f64, bool) = (row.get(0), row.get(1), row.get(2));
        let taken = match (end, is_alive) {
            (_, false) => Taken::NotAlive,
            (None, true) => {
                let sql = AssertSqlSafe(self.server.with_schema(BEGIN_RATE));
                sqlx::query(sql).persistent(false).execute(&mut connection).await?;
                Taken::Begun
            }
            (Some(end), true) => {
                let clock = self.adjust(asked, now);
                let moment = |at: u32| clock.local(end - f64::from(count - at) * interval);
                Taken::Moments((0..count).map(moment).collect())
            }
        };
        self.connection = Some(connection);
        Ok(taken)
    }

    /// Accepts an exchange in which the server's clock was read.
    fn adjust(&mut self, asked: Instant, server_seconds: f64) -> Clock {
        let took = asked.elapsed();
        let new = Clock { at: asked + took / 2, server_seconds, took };
        let best = self.clock.filter(|clock| clock.took < took && clock.at.elapsed() < CLOCK_FOR);
        *self.clock.insert(best.unwrap_or(new))
    }
}

enum Taken {
    Moments(Vec<Instant>),
    /// The table was empty.
    Begun,
    NotAlive,
}

impl Clock {
    /// The local moment of this time of the server.
    fn local(&self, seconds: f64) -> Instant {
        let after = seconds - self.server_seconds;
        let duration = Duration::from_secs_f64(after.abs().min(3600.0));
        if after < 0.0 { self.at.checked_sub(duration).unwrap_or(self.at) } else { self.at + duration }
    }
}
