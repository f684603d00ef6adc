//! Where a run stands at this moment, beside its committed counts.
//!
//! The run writes it about once a second, in a commit of its own making, so that `status` can show
//! from another terminal what the progress display shows in the first. Nothing is decided by it.

use sqlx::Row as _;

use super::{super::Error, reader::Reader, store::Query};

const KEEP_LIVE: &str = "
    insert or replace into live
        (id, run, at, doing, total, is_exact, per_second, in_flight, retrying, in_doubt, throttled_to)
    values (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

const SELECT_LIVE: &str = "
    select run, at, doing, total, is_exact, per_second, in_flight, retrying, in_doubt,
           throttled_to
    from live";

pub(crate) const END_LIVE: &str = "delete from live";

/// What a run is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// Rows are sent.
    #[default]
    Sending,
    /// Rows that an earlier run left in doubt are asked about, and no other yet.
    Asking,
    /// The API has asked for a pause.
    Paused,
    /// The API gives no good answer; everyone waits for it.
    Waiting,
    /// What is in flight is waited for.
    Finishing,
}

impl Activity {
    const ALL: [Activity; 5] =
        [Activity::Sending, Activity::Asking, Activity::Paused, Activity::Waiting, Activity::Finishing];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Activity::Sending => "sending",
            Activity::Asking => "asking",
            Activity::Paused => "paused",
            Activity::Waiting => "waiting",
            Activity::Finishing => "ending",
        }
    }
}

/// Where a run stands, but for its counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Heartbeat {
    /// What it is about.
    pub doing: Activity,
    /// Rows of the whole source, where anything tells.
    pub total: Option<u64>,
    /// Whether the source was read to its end, so that this is no estimate.
    pub is_exact: bool,
    /// Rows settled a second, over the last seconds.
    pub per_second: f64,
    /// Requests under way.
    pub in_flight: u64,
    /// Rows that wait to be tried again.
    pub retrying: u64,
    /// Rows of which it is not known whether an earlier run or this one has created their customers.
    pub in_doubt: u64,
    /// Requests a second: the user's rate, or what is held under a limit of the API.
    pub throttled_to: Option<f64>,
}

/// The statement that makes it visible.
pub(crate) fn keep(live: &Heartbeat, run: i64, now: i64) -> Query<'static> {
    sqlx::query(KEEP_LIVE)
        .bind(run)
        .bind(now)
        .bind(live.doing.name())
        .bind(live.total.map(|total| total as i64))
        .bind(live.is_exact)
        .bind(live.per_second)
        .bind(live.in_flight as i64)
        .bind(live.retrying as i64)
        .bind(live.in_doubt as i64)
        .bind(live.throttled_to)
}

impl Reader {
    /// What the run that goes on, or the one that died last, said of itself: its number, and when
    /// (UTC milliseconds).
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn heartbeat(&mut self) -> Result<Option<(i64, i64, Heartbeat)>, Error> {
        let rows = self.all(sqlx::query(SELECT_LIVE)).await?;
        Ok(rows.first().map(|row| {
            let count = |at: usize| row.get::<i64, _>(at) as u64;
            let word: &str = row.get(2);
            let doing = Activity::ALL.into_iter().find(|doing| doing.name() == word);
            let live = Heartbeat {
                doing: doing.unwrap_or_default(),
                total: row.get::<Option<i64>, _>(3).map(|total| total as u64),
                is_exact: row.get(4),
                per_second: row.get(5),
                in_flight: count(6),
                retrying: count(7),
                in_doubt: count(8),
                throttled_to: row.get(9),
            };
            (row.get(0), row.get(1), live)
        }))
    }
}
