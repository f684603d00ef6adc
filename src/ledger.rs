//! What is durable: which row got which outcome, and what a dead run left open.
//!
//! Promises:
//! * A [`Claim`] exists only after its commit: only [`Ledger::commit`] makes one, and
//!   [`Claim::settle`] consumes it. No claim, no request.
//! * Every count it returns is committed.
//! * A reference has one row for good. Duplicates within a source are found here, not by a set
//!   of references in memory.
//! * One writer. The lock file belongs to the run: whoever holds it knows that every earlier run
//!   is dead and that the claims still there are in doubt.
//! * The file is ours or it is not touched; it is readable by its owner alone.
//!
//! No SQL here: that is `sqlite`. What is here is the decision about each row of a chunk.
//!
//! References are found through 64-bit hashes: those of recent rows in memory, the others in a
//! table that is filled in bulk and in order (see the migration for why). Both only propose
//! rows; the text decides, so two references with one hash do no harm.

mod error;

mod outcome;

mod claim;

mod file;

mod open;

mod write;

mod sqlite;

mod reader;

#[cfg(feature = "crash-points")]
mod crash;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    path::{Path, PathBuf},
};

pub(crate) use self::file::private_file;
use self::{
    claim::Subject,
    file::{Identity, check_ours, identity, lock},
    sqlite::{Doubt, Known, Store},
    write::Write,
};
pub use self::{
    claim::{Claim, Ending, Errand, Evidence, Settlement, Trouble},
    error::Error,
    file::is_in_use,
    outcome::{Figures, Outcome, State, Tally},
    reader::{Columns, Reader, RowRecord, RunRecord, Selection},
};
use crate::customer::{Customer, Dropped, Fault, Faults, Field, Row};

/// How many hashes of recent rows are kept in memory before they are merged into the table:
/// nine megabytes, and a merge touches each page of the table once for many rows.
const RECENT_MAX: usize = 256 * 1024;

/// Whose customers a ledger records; another target is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The API's base URL, normalized.
    pub base_url: String,
    /// The merchant.
    pub merchant_id: String,
}

/// What one commit carries.
#[derive(Debug, Default)]
pub struct Batch {
    /// How many of [`Ledger::doubts`] to claim.
    pub doubts: usize,
    /// Rows to claim or settle at once, in file order.
    pub rows: Vec<Row>,
    /// Claims that have ended.
    pub settled: Vec<Settlement>,
    /// What the run did on the wire so far.
    pub figures: Figures,
}

/// What one commit has made true.
#[derive(Debug)]
pub struct Committed {
    /// The doubts and the rows of the batch that are to be sent.
    pub claims: Vec<Claim>,
    /// The run's counts after it.
    pub tally: Tally,
    /// What the rows of the batch go without.
    pub dropped: Dropped,
}

/// What a row of a batch turns out to be.
enum Decision {
    /// Settled at once, in a row of its own that does not own its reference.
    Unowned(i64),
    /// Known and left as it is; nothing is written.
    Left(Outcome),
    /// New to the ledger.
    New(i64),
    /// Known and not settled, or to be tried again.
    Again(Known),
}

/// What a run says of itself when it begins.
#[derive(Clone, Copy, Debug)]
pub struct NewRun<'a> {
    /// `import` or `retry`.
    pub command: &'a str,
    /// The source as given.
    pub source: &'a str,
    /// Where the file really is, if it is one.
    pub source_path: Option<&'a str>,
    /// Its header.
    pub columns: &'a [String],
    /// The column of the references.
    pub reference_column: Option<&'a str>,
}

/// The ledger of one run, opened for writing.
pub struct Ledger {
    store: Store,
    /// Held, not used: the lock goes when the process does.
    _lock: File,
    run: i64,
    tally: Tally,
    recent: Recent,
    met: Met,
    /// What earlier runs left in doubt and this one has not claimed yet; the first comes last.
    doubts: Vec<Doubt>,
    next_id: i64,
    last_line: u64,
    now: fn() -> i64,
    path: PathBuf,
    /// Which file that path was when the run began.
    identity: Option<Identity>,
}

impl Ledger {
    /// Opens or creates the ledger, takes its lock, and begins a run. What dead runs had claimed
    /// becomes `pending`, in doubt.
    ///
    /// # Errors
    /// Where the file is not ours, in use, for another target, or cannot be written.
    pub async fn begin_run(
        path: &Path,
        target: &Target,
        run: &NewRun<'_>,
        now: fn() -> i64,
    ) -> Result<Ledger, Error> {
        // One ledger has one lock, whatever path leads to it.
        let real = path.canonicalize();
        if let (Err(error), true) = (&real, path.is_symlink()) {
            // A new ledger would take the link's place, and whoever made the link would look elsewhere.
            return Err(Error::Open { path: path.into(), error: error.kind().into() });
        }
        let path = real.as_deref().unwrap_or(path);
        // Before the lock file is made: beside another program's file there shall be none of ours.
        check_ours(path)?;
        let lock = lock(path)?;
        let mut store = Store::open(path, check_ours(path)?).await?;
        if let Err(refused) = store.keep_target(target, now()).await {
            // Closed in order, so that a ledger that is not meant is left as it was found.
            store.close().await?;
            return Err(refused);
        }
        store.bury_dead_runs(now()).await?;
        let mut recent = Recent::default();
        store.recent_keys(|key, id| recent.insert(key, id)).await?;
        let mut doubts = store.doubts().await?;
        doubts.reverse();
        let next_id = store.last_row().await? + 1;
        let run = store.insert_run(run, now()).await?;
        Ok(Ledger {
            store,
            _lock: lock,
            run,
            tally: Tally::default(),
            recent,
            met: Met::default(),
            doubts,
            next_id,
            last_line: 0,
            now,
            path: path.into(),
            identity: identity(path),
        })
    }

    /// This run's number.
    pub fn run(&self) -> i64 {
        self.run
    }

    /// How many rows earlier runs left in doubt that are still to be claimed: their customers may be at
    /// the API. They are to be asked about before any row of the source is claimed, and count as none of
    /// its rows.
    pub fn doubts(&self) -> usize {
        self.doubts.len()
    }

    /// The run's committed counts.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Makes the settlements durable, and claims the rows, in one transaction.
    ///
    /// # Errors
    /// Then nothing of the batch is durable and no claim exists.
    pub async fn commit(&mut self, batch: Batch) -> Result<Committed, Error> {
        let Batch { doubts, rows, settled, figures } = batch;
        let mut tally = self.tally;
        let last_line = rows.last().map_or(self.last_line, |row| row.line);
        let mut write = Write::new(self.run, (self.now)());
        for settlement in &settled {
            if settlement.claim.customer().is_some() {
                tally.settle(settlement.ending.outcome());
            }
            write.settle(settlement);
        }
        let decisions = self.decide(&rows).await?;
        let mut claims = Vec::with_capacity(rows.len() + doubts);
        let first = self.doubts.len().saturating_sub(doubts);
        claims.extend(self.doubts.drain(first..).rev().map(|doubt| claim_doubt(doubt, write.now)));
        for (row, decision) in rows.into_iter().zip(decisions) {
            if let (Ok(customer), false) = (&row.reading, matches!(decision, Decision::Unowned(_))) {
                write.dropped.add(&customer.dropped);
            }
            claims.extend(apply(row, decision, &mut write, &mut tally));
        }
        self.store.write(&write, &claims, &tally, &figures, last_line).await?;
        (self.tally, self.last_line) = (tally, last_line);
        let dropped = std::mem::take(&mut write.dropped);
        if self.recent.len() > RECENT_MAX {
            self.store.merge_keys().await?;
            self.recent = Recent::default();
        }
        Ok(Committed { claims, tally, dropped })
    }

    /// Ends the run: nothing may be claimed any more. Invalid and duplicate rows that earlier
    /// runs found in the lines that this one has read again give way to its own.
    ///
    /// # Errors
    /// Where the ledger cannot be written.
    pub async fn end_run(
        mut self,
        state: State,
        exit_code: u8,
        stop_reason: Option<&str>,
        figures: &Figures,
    ) -> Result<(), Error> {
        // SQLite goes on writing to a file that nobody can find any more, and says nothing.
        if identity(&self.path) != self.identity {
            return Err(Error::Moved(self.path));
        }
        self.store.merge_keys().await?;
        self.store.end_run(self.run, state, exit_code, stop_reason, figures, (self.now)()).await?;
        self.store.close().await
    }

    /// What each row of a chunk means, in file order.
    async fn decide(&mut self, rows: &[Row]) -> Result<Vec<Decision>, Error> {
        let valid = || rows.iter().filter_map(|row| row.reading.as_ref().ok());
        let keys: Vec<u64> = valid().map(|customer| customer.reference.key()).collect();
        let ids: Vec<i64> = keys.iter().flat_map(|key| self.recent.get(*key)).collect();
        let known = self.store.find(&keys, &ids).await?;
        // References new to the ledger in this very chunk: their claims are not committed yet.
        let mut new_here: HashSet<&str> = HashSet::new();
        let mut decisions = Vec::with_capacity(rows.len());
        for row in rows {
            let decision = match &row.reading {
                Err(_) => Decision::Unowned(self.take_id()),
                Ok(customer) => match known.get(customer.reference.as_str()) {
                    Some(found) => self.meet(found, customer),
                    None if new_here.insert(customer.reference.as_str()) => {
                        let id = self.take_id();
                        self.recent.insert(customer.reference.key(), id);
                        self.met.mark(id);
                        Decision::New(id)
                    }
                    None => Decision::Unowned(self.take_id()),
                },
            };
            decisions.push(decision);
        }
        Ok(decisions)
    }

    /// A row whose reference the ledger knows.
    fn meet(&mut self, known: &Known, customer: &Customer) -> Decision {
        if self.met.mark(known.id) {
            return Decision::Unowned(self.take_id());
        }
        let same = known.fingerprint == Some(customer.fingerprint);
        match known.outcome {
            // Settled before its line was read: it was in doubt, and Get has confirmed it.
            Outcome::Created | Outcome::Existing if same && known.run == self.run => {
                Decision::Left(known.outcome)
            }
            Outcome::Created | Outcome::Existing | Outcome::Updated => {
                Decision::Left(if same { Outcome::Unchanged } else { Outcome::Changed })
            }
            Outcome::Rejected if same => Decision::Left(Outcome::Rejected),
            _ => Decision::Again(known.clone()),
        }
    }

    fn take_id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id - 1
    }
}

/// Carries a decision out: counts the row, writes what it needs, and makes its claim if it is to
/// be sent.
fn apply(row: Row, decision: Decision, write: &mut Write<'_>, tally: &mut Tally) -> Option<Claim> {
    let Row { line, record, reading, corrects } = row;
    // Good now or still not: either way it stands for the earlier one.
    if let Some(correction) = &corrects {
        write.corrected(correction);
    }
    let (id, known) = match (&reading, decision) {
        (_, Decision::Left(outcome)) => {
            tally.add(outcome);
            return None;
        }
        (reading, Decision::Unowned(id)) => {
            let (outcome, reference, trouble) = describe_unowned(reading);
            tally.add(outcome);
            write.settle_unowned(id, line, outcome, reference, trouble, &record);
            return None;
        }
        (_, Decision::New(id)) => (id, None),
        (_, Decision::Again(found)) => (found.id, Some(found)),
    };
    let Ok(customer) = reading else { return None };
    tally.add(Outcome::Pending);
    let in_doubt = known.as_ref().filter(|known| known.in_doubt);
    let claim = Claim {
        id,
        line,
        errand: if in_doubt.is_some() { Errand::Confirm } else { Errand::Create },
        claimed_at: in_doubt.and_then(|known| known.claimed_at).unwrap_or(write.now),
        prior: in_doubt.and_then(|known| known.fingerprint),
        known: known.is_some(),
        subject: Subject::Row(customer, record),
    };
    Some(claim)
}

fn claim_doubt(doubt: Doubt, now: i64) -> Claim {
    let Doubt { id, line, reference, fingerprint, claimed_at } = doubt;
    Claim {
        id,
        line,
        subject: Subject::Doubt(reference),
        errand: Errand::Confirm,
        claimed_at: claimed_at.unwrap_or(now),
        known: true,
        prior: fingerprint,
    }
}

/// What there is to say of a row that is not to be sent: invalid, or else a duplicate.
pub(crate) fn describe_unowned(reading: &Result<Customer, Faults>) -> (Outcome, Option<String>, Trouble) {
    match reading {
        Ok(customer) => {
            let trouble = Trouble {
                field: Some(Field::Reference.name().into()),
                code: Some("duplicate".into()),
                message: Some("an earlier row of the same source has this object_reference_id".into()),
                ..Trouble::default()
            };
            (Outcome::Duplicate, Some(customer.reference.as_str().to_owned()), trouble)
        }
        Err(faults) => {
            let join =
                |part: fn(&Fault) -> String| faults.list.iter().map(part).collect::<Vec<_>>().join(";");
            let trouble = Trouble {
                field: Some(join(|fault| fault.field_name().into())),
                code: Some(join(|fault| fault.rule.name().into())),
                message: Some(join(|fault| format!("{fault}; {}", fault.rule.remedy(fault.field)))),
                ..Trouble::default()
            };
            (Outcome::Invalid, faults.reference.clone(), trouble)
        }
    }
}

/// Hash → row of the rows that are not in the table yet.
#[derive(Default)]
struct Recent {
    ids: HashMap<u64, i64>,
    /// Further rows with a hash that `ids` has already; practically always empty.
    twins: Vec<(u64, i64)>,
}

impl Recent {
    fn insert(&mut self, key: u64, id: i64) {
        if let Some(first) = self.ids.insert(key, id) {
            self.twins.push((key, first));
        }
    }

    fn get(&self, key: u64) -> impl Iterator<Item = i64> {
        let twins = self.twins.iter().filter(move |(of, _)| *of == key).map(|(_, id)| *id);
        self.ids.get(&key).copied().into_iter().chain(twins)
    }

    fn len(&self) -> usize {
        self.ids.len()
    }
}

/// Which rows this run has met, by id: one bit each.
#[derive(Default)]
struct Met(Vec<u64>);

impl Met {
    /// Marks the row; true if it was marked before.
    fn mark(&mut self, id: i64) -> bool {
        let (word, bit) = (id as usize / 64, 1 << (id % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let was = self.0[word] & bit != 0;
        self.0[word] |= bit;
        was
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_with_one_hash_are_all_found() {
        let mut recent = Recent::default();
        for id in [1, 2, 3] {
            recent.insert(7, id);
        }
        recent.insert(8, 4);
        let mut ids: Vec<i64> = recent.get(7).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3]);
        assert_eq!(recent.get(8).collect::<Vec<_>>(), [4]);
        assert_eq!(recent.get(9).count(), 0);
    }

    #[test]
    fn a_row_is_met_once() {
        let mut met = Met::default();
        for id in [1, 63, 64, 100_000] {
            assert!(!met.mark(id), "{id}");
            assert!(met.mark(id), "{id}");
        }
        assert!(!met.mark(65));
    }
}
