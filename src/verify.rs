//! What the API has against what the file says, for the rows that a ledger has imported.
//!
//! Only questions are asked, at the pace of an import, and nothing is recorded here: what the API has today is no
//! outcome of a run. Fields are compared by their fingerprints, so no value goes further than its answer. A field
//! that the file does not have is not compared: the API may fill it in by itself.
//!
//! Must not know of HTTP, SQL, CSV or the terminal.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{debug, info};

use crate::{
    customer::{Changed, Fingerprint, Reference, Row},
    error::Error,
    ledger::{ChangedAtApi, ImportedIndex, ImportedRow},
    run::{EndReason, Signal, StopReason, open_rows_max},
    sender::{Lookup, Sender, ShutdownPhase},
    source::{self, Chunk},
    throttle::Slot,
};

/// How many lines of a kind are named in full.
const LINES_MAX: usize = 20;

/// How often limits in time are looked at and the progress is shown.
const TICK: Duration = Duration::from_millis(200);

/// What it is told.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Questions in flight.
    pub concurrency: usize,
    /// Without a good answer for so long, it stops.
    pub outage_limit: Duration,
    /// How long questions in flight may still take once it is to end.
    pub shutdown_grace: Duration,
    /// Only so many rows, chosen at random with this seed.
    pub sample: Option<(usize, u64)>,
    /// Whether rows that differ are kept to be marked in the ledger.
    pub mark: bool,
}

/// What was found out so far.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Rows of the file.
    pub rows: u64,
    /// Rows of it that the ledger has not imported, invalid ones and duplicates among them.
    pub not_imported: u64,
    /// Rows to ask after, as far as is known.
    pub imported: u64,
    /// The API has what the file says.
    pub same: u64,
    /// It has something else.
    pub different: u64,
    /// It has no such customer.
    pub missing: u64,
    /// It has not answered in all attempts.
    pub unanswered: u64,
    /// In how many rows each field differs.
    pub fields: Changed,
    /// In how many rows the customer's id is another one.
    pub other_id: u64,
    /// The first lines that differ, with what differs.
    pub first_different: Vec<(u64, String)>,
    /// The first lines that are missing.
    pub first_missing: Vec<u64>,
    /// Rows that differ although the ledger takes them for unchanged, so that no import would notice.
    pub unnoticed: u64,
    /// The same rows, where they are to be marked.
    pub to_mark: Vec<ChangedAtApi>,
    /// Bytes of the source that were read.
    pub bytes: u64,
}

impl Found {
    /// Rows whose question has its answer.
    pub fn asked(&self) -> u64 {
        self.same + self.different + self.missing + self.unanswered
    }

    fn compare(&mut self, question: &Question, inquiry: Lookup, marks: bool) {
        match inquiry {
            Lookup::Found { customer_id, facts } => {
                let ours = question.fingerprint;
                let fields = ours.differing(facts).without(facts.fields().without(ours.fields()));
                let other_id = customer_id != question.imported.customer_id;
                if let Some(differing) = question.imported.changed_at_api(ours, facts) {
                    self.unnoticed += 1;
                    self.to_mark.extend(marks.then_some(differing));
                }
                if fields.is_empty() && !other_id {
                    self.same += 1;
                    return;
                }
                let words = match (fields.is_empty(), other_id) {
                    (true, _) => "customer id".to_owned(),
                    (false, true) => format!("customer id, {fields}"),
                    (false, false) => fields.to_string(),
                };
                debug!(line = question.line, fields = %words, "the API has something else");
                self.different += 1;
                self.other_id += u64::from(other_id);
                self.fields.add(fields);
                insert_among_first(&mut self.first_different, (question.line, words));
            }
            Lookup::Missing => {
                debug!(line = question.line, "the API has no such customer");
                self.missing += 1;
                insert_among_first(&mut self.first_missing, question.line);
            }
            Lookup::Unanswered => self.unanswered += 1,
            Lookup::Ended | Lookup::Halted(_) => {}
        }
    }
}

/// In the order of the file: answers overtake each other.
fn insert_among_first<T: PartialOrd>(first: &mut Vec<T>, one: T) {
    let at = first.partition_point(|other| *other < one);
    first.insert(at, one);
    first.truncate(LINES_MAX);
}

/// A row to ask after.
struct Question {
    line: u64,
    reference: Reference,
    fingerprint: Fingerprint,
    imported: ImportedRow,
}

struct Verify {
    imported: ImportedIndex,
    sender: Arc<Sender>,
    options: Options,
    random: StdRng,
    sample: Vec<Question>,
    waiting: VecDeque<Question>,
    open: JoinSet<(Question, Lookup)>,
    source_ended: bool,
    found: Found,
    ended: Option<EndReason>,
    abandon_at: Option<Instant>,
}

enum Event {
    Signal(Signal),
    Answered(Box<(Question, Lookup)>),
    Chunk(Option<Result<Chunk, source::Error>>),
    Slot(Slot),
    Tick,
}

/// Asks until the source is at its end, the user ends it or it ends itself.
///
/// # Errors
/// Where the ledger cannot be read, or a bug ended a question's task.
pub async fn run(
    imported: ImportedIndex,
    mut source: mpsc::Receiver<Result<Chunk, source::Error>>,
    sender: Arc<Sender>,
    options: Options,
    signals: &mut mpsc::Receiver<Signal>,
    show: &mut dyn FnMut(&Found),
) -> Result<(EndReason, Found), Error> {
    let mut verify = Verify {
        imported,
        sender,
        options,
        random: StdRng::seed_from_u64(options.sample.map_or(0, |(_, seed)| seed)),
        sample: Vec::new(),
        waiting: VecDeque::new(),
        open: JoinSet::new(),
        source_ended: false,
        found: Found::default(),
        ended: None,
        abandon_at: None,
    };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !(verify.source_ended && verify.waiting.is_empty() && verify.open.is_empty()) {
        let event = verify.next_event(&mut source, signals, &mut ticks).await?;
        if matches!((&event, &verify.ended), (Event::Signal(_), Some(EndReason::Interrupted(_)))) {
            // The second time: at once. A question that is given up does no harm.
            break;
        }
        if matches!(event, Event::Tick) {
            show(&verify.found);
        }
        verify.handle(event).await?;
    }
    show(&verify.found);
    Ok((verify.ended.unwrap_or(EndReason::Completed), verify.found))
}

impl Verify {
    /// The one place where anything is waited for. Every arm only receives.
    async fn next_event(
        &mut self,
        source: &mut mpsc::Receiver<Result<Chunk, source::Error>>,
        signals: &mut mpsc::Receiver<Signal>,
        ticks: &mut tokio::time::Interval,
    ) -> Result<Event, Error> {
        let wants_rows = self.waiting.is_empty() && !self.source_ended;
        let wants_slot =
            !self.waiting.is_empty() && self.open.len() < open_rows_max(self.options.concurrency);
        Ok(tokio::select! {
            biased;
            Some(signal) = signals.recv() => Event::Signal(signal),
            Some(answered) = self.open.join_next() => match answered {
                Ok(answered) => Event::Answered(Box::new(answered)),
                Err(error) => return Err(Error::Bug(format!("a question's task ended without a result ({error})"))),
            },
            chunk = source.recv(), if wants_rows => Event::Chunk(chunk),
            slot = self.sender.throttle().slot(), if wants_slot => Event::Slot(slot),
            _ = ticks.tick() => Event::Tick,
        })
    }

    async fn handle(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Signal(signal) => self.stop(EndReason::Interrupted(signal)),
            Event::Answered(answered) => {
                let (question, inquiry) = *answered;
                if let Lookup::Halted(halt) = &inquiry {
                    self.stop(EndReason::Stopped(StopReason::Halt(halt.clone())));
                }
                self.found.compare(&question, inquiry, self.options.mark);
            }
            Event::Chunk(Some(Ok(chunk))) => {
                self.found.bytes = chunk.place.bytes;
                self.take(chunk.rows).await?;
            }
            Event::Chunk(Some(Err(error))) => {
                self.ended.get_or_insert(EndReason::SourceFailed(error));
                self.end_source();
            }
            Event::Chunk(None) => self.end_source(),
            Event::Slot(slot) => {
                if let Some(question) = self.waiting.pop_front() {
                    let sender = Arc::clone(&self.sender);
                    self.open.spawn(async move {
                        let inquiry = sender.lookup(&question.reference, slot).await;
                        (question, inquiry)
                    });
                }
            }
            Event::Tick => self.check_limits(),
        }
        Ok(())
    }

    /// Finds out which rows were imported; the others are only counted.
    async fn take(&mut self, rows: Vec<Row>) -> Result<(), Error> {
        self.found.rows += rows.len() as u64;
        let good = rows.iter().filter_map(|row| row.reading.as_ref().ok());
        let mut imported = self.imported.find(good.map(|customer| &customer.reference)).await?;
        for row in rows {
            let found = row.reading.ok().and_then(|customer| {
                let imported = imported.remove(customer.reference.as_str())?;
                let (reference, fingerprint) = (customer.reference, customer.fingerprint);
                Some(Question { line: row.line, reference, fingerprint, imported })
            });
            match found {
                None => self.found.not_imported += 1,
                Some(question) => self.choose(question),
            }
        }
        Ok(())
    }

    /// All of them, or so many that each imported row of the file has the same chance.
    fn choose(&mut self, question: Question) {
        self.found.imported += 1;
        let Some((most, _)) = self.options.sample else {
            return self.waiting.push_back(question);
        };
        if self.sample.len() < most {
            return self.sample.push(question);
        }
        let at = (self.random.random::<f64>() * self.found.imported as f64) as usize;
        if let Some(place) = self.sample.get_mut(at) {
            *place = question;
        }
    }

    fn end_source(&mut self) {
        self.source_ended = true;
        self.sample.sort_unstable_by_key(|question| question.line);
        self.waiting.extend(self.sample.drain(..));
    }

    /// Ends asking; questions in flight get their grace. The first reason stays.
    fn stop(&mut self, ended: EndReason) {
        if matches!(self.ended, Some(EndReason::Interrupted(_) | EndReason::Stopped(_))) {
            return;
        }
        info!(state = ended.state().name(), "the comparison ends; questions in flight are waited for");
        self.ended = Some(ended);
        self.source_ended = true;
        self.waiting.clear();
        self.sender.advance_shutdown(ShutdownPhase::Draining);
        self.abandon_at = Some(Instant::now() + self.options.shutdown_grace);
    }

    fn check_limits(&mut self) {
        if self.abandon_at.is_some_and(|at| at <= Instant::now()) {
            self.sender.advance_shutdown(ShutdownPhase::Aborting);
        }
        let limit = self.options.outage_limit;
        if self.sender.throttle().failing_for().is_some_and(|trouble| trouble >= limit) {
            let why = self.sender.last_failure();
            self.stop(EndReason::Stopped(StopReason::Outage(limit, why)));
        }
        if let Some(halt) = self.sender.wrong_endpoint() {
            self.stop(EndReason::Stopped(StopReason::Halt(halt)));
        }
    }
}
