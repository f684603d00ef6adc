//! The simulator's memory: the customers it has, and its own account of what it was asked and did.
//!
//! Tests take the [`Journal`] as their oracle, because it knows what the API really did where the
//! client can only guess. Everything is behind one lock that is held for a lookup, never across
//! an await; the two figures that change at both ends of a request are atomics.
//!
//! Memory grows with the customers and with the references asked about (one counter each, so that
//! attempts can be numbered), and with the requests only while `record` is on.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use super::{
    behavior::{Behavior, Fault, Step},
    call::Fields,
    limiter::Account,
};

/// A cheap handle on what the simulator was asked and did; outlives it.
#[derive(Clone, Debug)]
pub struct Journal(pub(super) Arc<Memory>);

/// One request, as the server saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When it had arrived in full; entries are in this order.
    pub at: Instant,
    /// What it asked for.
    pub step: Step,
    /// Whom it was about; for a known customer id the reference behind it.
    pub reference: Arc<str>,
    /// The how-manieth request about this reference, from 1; 0 where it was turned away before it
    /// could count (429, wrong key, outage, unknown path).
    pub attempt: u32,
    /// The answer; `None` where there was none, or not yet.
    pub status: Option<u16>,
    /// The fault that struck it.
    pub fault: Option<Fault>,
}

/// A customer as the API keeps it; an absent field is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customer {
    /// A prefix and sixteen letters or digits; which ones is the profile's.
    pub id: Arc<str>,
    /// The merchant's own name for it.
    pub object_reference_id: Arc<str>,
    /// As it was sent, or as the profile fills it in.
    pub mobile_country_code: String,
    /// As it was sent.
    pub mobile_number: String,
    /// As it was sent.
    pub email_address: String,
    /// As it was sent.
    pub first_name: String,
    /// As it was sent.
    pub last_name: String,
    /// When it was created.
    pub date_created: SystemTime,
    /// When it was created or last updated.
    pub last_updated: SystemTime,
    /// How many Creates made it; anything but 1 is a bug of the simulator.
    pub times_created: u32,
}

impl Journal {
    /// Every HTTP request that arrived in full, whatever became of it.
    pub fn requests(&self) -> u64 {
        self.0.state().steps.iter().sum()
    }

    /// Create requests, those turned away included.
    pub fn creates(&self) -> u64 {
        self.count(Step::Create)
    }

    /// Get requests, those turned away included.
    pub fn gets(&self) -> u64 {
        self.count(Step::Get)
    }

    /// Update requests, those turned away included.
    pub fn updates(&self) -> u64 {
        self.count(Step::Update)
    }

    /// Requests answered with 429.
    pub fn throttled(&self) -> u64 {
        self.0.state().throttled
    }

    /// Connections accepted, those cut at once by an outage included.
    pub fn connections(&self) -> u64 {
        self.0.state().connections
    }

    /// The requests that are under way now.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight()
    }

    /// The most requests that were under way at one moment.
    pub fn peak_in_flight(&self) -> usize {
        self.0.peak_in_flight.load(Ordering::Relaxed)
    }

    /// Every customer of every merchant: reference → (id, how many times it was created). Where two
    /// merchants share a reference one of them is shown; ask [`Journal::customer`] then.
    pub fn created(&self) -> HashMap<String, (String, u32)> {
        let state = self.0.state();
        let customers = state.merchants.values().flat_map(|merchant| merchant.rows.values());
        customers
            .filter_map(|row| row.customer.as_deref())
            .map(|it| (it.object_reference_id.to_string(), (it.id.to_string(), it.times_created)))
            .collect()
    }

    /// How many customers there are, over all merchants.
    pub fn customers(&self) -> usize {
        self.0.state().merchants.values().map(|merchant| merchant.ids.len()).sum()
    }

    /// One customer of one merchant (`""` for requests without `x-merchantid`), by reference or id.
    pub fn customer(&self, merchant: &str, name: &str) -> Option<Customer> {
        self.0.state().merchants.get(merchant)?.find(name).cloned()
    }

    /// Every request so far, in order of arrival; empty where `record` is off.
    pub fn entries(&self) -> Vec<Entry> {
        self.0.state().entries.clone()
    }

    fn count(&self, step: Step) -> u64 {
        self.0.state().steps[step as usize]
    }
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Memory {
    state: Mutex<State>,
    in_flight: AtomicUsize,
    peak_in_flight: AtomicUsize,
}

impl Memory {
    pub(super) fn new(seed: u64, behavior: Behavior) -> Memory {
        let state = State {
            seed,
            behavior,
            merchants: HashMap::new(),
            busy_until: None,
            account: Account::default(),
            steps: [0; 4],
            throttled: 0,
            connections: 0,
            entries: Vec::new(),
        };
        Memory {
            state: Mutex::new(state),
            in_flight: AtomicUsize::new(0),
            peak_in_flight: AtomicUsize::new(0),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Each change under the lock is complete before the next; a panic of a test's closure in
        // `reconfigure` must not take the simulator down with it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request as in flight until the guard goes, also where its connection is dropped.
    pub(super) fn enter(&self) -> InFlight<'_> {
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak_in_flight.fetch_max(now, Ordering::Relaxed);
        InFlight(self)
    }
}

pub(super) struct InFlight<'a>(&'a Memory);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) seed: u64,
    pub(super) behavior: Behavior,
    merchants: HashMap<Box<str>, Merchant>,
    /// Until when it works on what it has.
    busy_until: Option<Instant>,
    /// What the rate limit counts.
    account: Account,
    /// Requests by step.
    steps: [u64; 4],
    throttled: u64,
    pub(super) connections: u64,
    entries: Vec<Entry>,
}

impl State {
    pub(super) fn merchant(&mut self, name: &str) -> &mut Merchant {
        self.merchants.entry(name.into()).or_default()
    }

    /// Whether this is a merchant. Where none is told any is, but not one that differs only in case from one that was
    /// here before, if the profile compares case: a merchant id is no other one in capitals.
    pub(super) fn is_merchant(&self, name: &str) -> bool {
        let Behavior { merchant_id, profile, .. } = &self.behavior;
        match merchant_id {
            Some(ours) => ours == name,
            None if !profile.compares_case_of_merchants() || self.merchants.contains_key(name) => true,
            None => !self.merchants.keys().any(|known| known.eq_ignore_ascii_case(name)),
        }
    }

    /// Counts a request that has arrived; its running number names its answer.
    pub(super) fn count(&mut self, step: Step) -> u64 {
        self.steps[step as usize] += 1;
        self.steps.iter().sum()
    }

    pub(super) fn count_throttled(&mut self) {
        self.throttled += 1;
    }

    /// Whether the limit has room for one more.
    pub(super) fn has_room(&mut self, now: Instant) -> bool {
        let Behavior { rate_limit, limiter, .. } = self.behavior;
        rate_limit.is_none_or(|limit| self.account.has_room(limiter, f64::from(limit), now))
    }

    /// How long the work for one more waits for that of the others.
    pub(super) fn queue(&mut self, now: Instant) -> Duration {
        let Some(capacity) = self.behavior.capacity else { return Duration::ZERO };
        let until = self.busy_until.unwrap_or(now).max(now) + Duration::from_secs(1) / capacity;
        self.busy_until = Some(until);
        until - now
    }

    /// Writes an entry and returns its place, for [`State::answered`].
    pub(super) fn record(&mut self, entry: impl FnOnce() -> Entry) -> Option<usize> {
        self.behavior.record.then(|| {
            self.entries.push(entry());
            self.entries.len() - 1
        })
    }

    pub(super) fn answered(&mut self, entry: Option<usize>, status: u16) {
        if let Some(entry) = entry.and_then(|place| self.entries.get_mut(place)) {
            entry.status = Some(status);
        }
    }
}

/// What one merchant sees of the API.
#[derive(Debug, Default)]
pub(super) struct Merchant {
    rows: HashMap<Arc<str>, Row>,
    ids: HashMap<Arc<str>, Arc<str>>,
}

#[derive(Debug, Default)]
struct Row {
    attempts: u32,
    customer: Option<Box<Customer>>,
}

impl Merchant {
    /// Numbers a request about the customer that goes by this name, and returns its reference.
    pub(super) fn attempt(&mut self, step: Step, name: &str) -> (Arc<str>, u32) {
        // A Create speaks of references only, even of one that looks like an id.
        let by_id = self.ids.get(name).filter(|_| step != Step::Create);
        let reference = by_id.map_or(name, |reference| reference);
        let known = self.rows.get_key_value(reference).map(|(key, _)| Arc::clone(key));
        let key = known.unwrap_or_else(|| reference.into());
        let row = self.rows.entry(Arc::clone(&key)).or_default();
        row.attempts = row.attempts.saturating_add(1);
        (key, row.attempts)
    }

    pub(super) fn find(&self, name: &str) -> Option<&Customer> {
        let reference = self.ids.get(name).map_or(name, |reference| reference);
        self.rows.get(reference)?.customer.as_deref()
    }

    /// The one place where a customer comes into being; `None` where it exists already.
    pub(super) fn create(&mut self, customer: Customer) -> Option<&Customer> {
        let reference = Arc::clone(&customer.object_reference_id);
        let row = self.rows.entry(Arc::clone(&reference)).or_default();
        if row.customer.is_some() {
            return None;
        }
        self.ids.insert(Arc::clone(&customer.id), reference);
        let times_created = customer.times_created + 1;
        Some(row.customer.insert(Box::new(Customer { times_created, ..customer })))
    }

    /// Overwrites the fields that were sent; an empty one erases. `None` where there is no such customer.
    pub(super) fn update(&mut self, name: &str, fields: &mut Fields, now: SystemTime) -> Option<&Customer> {
        let reference = self.ids.get(name).map_or(name, |reference| reference);
        let customer = self.rows.get_mut(reference)?.customer.as_deref_mut()?;
        let sent = [
            (&mut customer.mobile_country_code, &mut fields.mobile_country_code),
            (&mut customer.mobile_number, &mut fields.mobile_number),
            (&mut customer.email_address, &mut fields.email_address),
            (&mut customer.first_name, &mut fields.first_name),
            (&mut customer.last_name, &mut fields.last_name),
        ];
        for (ours, theirs) in sent {
            if let Some(value) = theirs.take() {
                *ours = value;
            }
        }
        customer.last_updated = now;
        Some(customer)
    }
}

impl Customer {
    /// A customer of these fields that nobody has created yet.
    pub(super) fn new(id: Arc<str>, reference: Arc<str>, mut fields: Fields, now: SystemTime) -> Customer {
        let take = |field: &mut Option<String>| mem::take(field).unwrap_or_default();
        Customer {
            id,
            object_reference_id: reference,
            mobile_country_code: take(&mut fields.mobile_country_code),
            mobile_number: take(&mut fields.mobile_number),
            email_address: take(&mut fields.email_address),
            first_name: take(&mut fields.first_name),
            last_name: take(&mut fields.last_name),
            date_created: now,
            last_updated: now,
            times_created: 0,
        }
    }
}
