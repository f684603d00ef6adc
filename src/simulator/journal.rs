//! The state of the simulator: its customers, and the journal of all requests and their effects.
//!
//! Tests use the [`Journal`] as their oracle, because it records what the API really did, where the client can only
//! guess. All state is behind one lock that is held for a lookup, never across an await; the two gauges that change
//! at both ends of a request are atomics.
//!
//! Memory grows with the customers and with the references requested (one counter each, to number attempts), and with the
//! requests only while `record` is on.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use super::{
    behavior::{Behavior, Fault},
    limiter::LimiterState,
    record::{Customer, Endpoint, SentFields},
};

/// A handle on the journal of a simulator, which it may outlive.
#[derive(Clone, Debug)]
pub struct Journal(pub(super) Arc<SharedState>);

/// One request, as the server saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When the request had arrived in full; entries are in this order.
    pub at: Instant,
    /// The endpoint that was called.
    pub endpoint: Endpoint,
    /// The reference of the request; for a known customer id, that of the customer.
    pub reference: Arc<str>,
    /// The number of the attempt for this reference, from 1; 0 if the request was refused before it was numbered
    /// (429, wrong key, outage, unknown path).
    pub attempt: u32,
    /// The status of the response; `None` if there was none, or not yet.
    pub status: Option<u16>,
    /// The fault that was injected.
    pub fault: Option<Fault>,
}

impl Journal {
    /// Number of HTTP requests that arrived in full, whatever their result.
    pub fn requests(&self) -> u64 {
        self.0.state().by_endpoint.iter().sum()
    }

    /// Create requests, including refused ones.
    pub fn creates(&self) -> u64 {
        self.count(Endpoint::Create)
    }

    /// Get requests, including refused ones.
    pub fn gets(&self) -> u64 {
        self.count(Endpoint::Get)
    }

    /// Update requests, including refused ones.
    pub fn updates(&self) -> u64 {
        self.count(Endpoint::Update)
    }

    /// Number of 429 responses.
    pub fn throttled(&self) -> u64 {
        self.0.state().throttled
    }

    /// Connections accepted, including those reset at once by an outage.
    pub fn connections(&self) -> u64 {
        self.0.state().connections
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight()
    }

    /// The maximum number of requests in flight.
    pub fn peak_in_flight(&self) -> usize {
        self.0.peak_in_flight.load(Ordering::Relaxed)
    }

    /// Every customer of every merchant: reference → (id, how many times it was created). If two merchants share a
    /// reference, only one is included; use [`Journal::customer`] then.
    pub fn created(&self) -> HashMap<String, (String, u32)> {
        let state = self.0.state();
        let customers = state.merchants.values().flat_map(|merchant| merchant.rows.values());
        customers
            .filter_map(|row| row.customer.as_deref())
            .map(|it| (it.object_reference_id.to_string(), (it.id.to_string(), it.times_created)))
            .collect()
    }

    /// Number of customers of all merchants.
    pub fn customers(&self) -> usize {
        self.0.state().merchants.values().map(|merchant| merchant.ids.len()).sum()
    }

    /// One customer of one merchant (`""` for requests without `x-merchantid`), by reference or id.
    pub fn customer(&self, merchant: &str, name: &str) -> Option<Customer> {
        self.0.state().merchants.get(merchant)?.find(name).cloned()
    }

    /// Every request so far, in order of arrival; empty if `record` is off.
    pub fn entries(&self) -> Vec<Entry> {
        self.0.state().entries.clone()
    }

    fn count(&self, endpoint: Endpoint) -> u64 {
        self.0.state().by_endpoint[endpoint as usize]
    }
}

/// The state that all connections share.
#[derive(Debug)]
pub(super) struct SharedState {
    state: Mutex<ServerState>,
    in_flight: AtomicUsize,
    peak_in_flight: AtomicUsize,
}

impl SharedState {
    pub(super) fn new(seed: u64, behavior: Behavior) -> SharedState {
        let state = ServerState {
            seed,
            behavior,
            merchants: HashMap::new(),
            busy_until: None,
            limiter_state: LimiterState::default(),
            by_endpoint: [0; 4],
            throttled: 0,
            connections: 0,
            entries: Vec::new(),
        };
        SharedState {
            state: Mutex::new(state),
            in_flight: AtomicUsize::new(0),
            peak_in_flight: AtomicUsize::new(0),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, ServerState> {
        // Each change under the lock is complete, so a panic in a test's closure for `reconfigure` leaves the state
        // consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request as in flight until the guard is dropped, which also happens when its connection is dropped.
    pub(super) fn enter(&self) -> InFlight<'_> {
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak_in_flight.fetch_max(now, Ordering::Relaxed);
        InFlight(self)
    }
}

pub(super) struct InFlight<'a>(&'a SharedState);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct ServerState {
    pub(super) seed: u64,
    pub(super) behavior: Behavior,
    merchants: HashMap<Box<str>, Merchant>,
    /// When the server will have finished the work for all admitted requests.
    busy_until: Option<Instant>,
    limiter_state: LimiterState,
    /// Requests by endpoint.
    by_endpoint: [u64; 4],
    throttled: u64,
    pub(super) connections: u64,
    entries: Vec<Entry>,
}

impl ServerState {
    pub(super) fn merchant(&mut self, name: &str) -> &mut Merchant {
        self.merchants.entry(name.into()).or_default()
    }

    /// Whether the merchant is accepted. If no merchant is configured, any is accepted, except one that differs only
    /// in case from an earlier one, if the profile compares case.
    pub(super) fn is_merchant(&self, name: &str) -> bool {
        let Behavior { merchant_id, profile, .. } = &self.behavior;
        match merchant_id {
            Some(ours) => ours == name,
            None if !profile.compares_case_of_merchants() || self.merchants.contains_key(name) => true,
            None => !self.merchants.keys().any(|known| known.eq_ignore_ascii_case(name)),
        }
    }

    /// Counts a request and returns its number, which becomes its response id.
    pub(super) fn count(&mut self, endpoint: Endpoint) -> u64 {
        self.by_endpoint[endpoint as usize] += 1;
        self.by_endpoint.iter().sum()
    }

    pub(super) fn count_throttled(&mut self) {
        self.throttled += 1;
    }

    /// Whether the rate limit admits one more request.
    pub(super) fn has_room(&mut self, now: Instant) -> bool {
        let Behavior { rate_limit, limiter, .. } = self.behavior;
        rate_limit.is_none_or(|limit| self.limiter_state.has_room(limiter, f64::from(limit), now))
    }

    /// How long one more request waits for the work on the others.
    pub(super) fn queue(&mut self, now: Instant) -> Duration {
        let Some(capacity) = self.behavior.capacity else { return Duration::ZERO };
        let until = self.busy_until.unwrap_or(now).max(now) + Duration::from_secs(1) / capacity;
        self.busy_until = Some(until);
        until - now
    }

    /// Adds an entry and returns its index, for [`ServerState::answered`].
    pub(super) fn record(&mut self, entry: impl FnOnce() -> Entry) -> Option<usize> {
        self.behavior.record.then(|| {
            self.entries.push(entry());
            self.entries.len() - 1
        })
    }

    pub(super) fn answered(&mut self, entry: Option<usize>, status: u16) {
        if let Some(entry) = entry.and_then(|index| self.entries.get_mut(index)) {
            entry.status = Some(status);
        }
    }
}

/// The customers of one merchant.
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
    /// Numbers a request about the customer with this id or reference, and returns its reference.
    pub(super) fn attempt(&mut self, endpoint: Endpoint, name: &str) -> (Arc<str>, u32) {
        // The name in a Create is a reference, even if it looks like an id.
        let by_id = self.ids.get(name).filter(|_| endpoint != Endpoint::Create);
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

    /// Creates a customer; `None` if it exists already. No other code creates one.
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

    /// Overwrites the fields that were sent; an empty one clears the field. `None` if there is no such customer.
    pub(super) fn update(
        &mut self,
        name: &str,
        fields: &mut SentFields,
        now: SystemTime,
    ) -> Option<&Customer> {
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
