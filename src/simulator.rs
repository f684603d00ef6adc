//! An HTTP server that behaves like Juspay's customers API, with seeded faults and a journal.
//!
//! Promises:
//! * It shares no code and no wire types with the client, so both ends cannot agree on the same
//!   mistake. It is written from the API's page, not from what our client happens to send.
//! * At most one customer per merchant and reference, whatever arrives at once.
//! * Faults, latency, ids and tokens depend on the seed, the reference and the number of the attempt,
//!   never on the order in which requests arrive (see `behavior`).
//! * No request can make it panic, and it prints nothing.
//!
//! What it does not simulate: TLS; any call but Create, Get and Update of a customer; the syntax of e-mail addresses,
//! names and numbers (only what is mandatory, lengths, and that no number is negative); merchants' accounts, so that
//! any merchant id is a merchant; the API's true rate limits, latencies and lags, which nobody publishes; how long a
//! client token lives; and anything across a restart: a new simulator has no customers. A response of the simulator
//! does not prove that Juspay responds in the same way; `probe` compares a sandbox with what the client relies on.
//!
//! `call` parses a request, `profile` is the variant of the API, `answer` and `refusal` contain the texts, `behavior`
//! the options and faults, `limiter` the rate limits, `journal` the state, `record` the data that they share. This
//! file has the connections and the handling of a request.

mod record;

mod call;

mod answer;

mod refusal;

mod profile;

mod behavior;

mod limiter;

mod journal;

#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use self::{
    answer::{Answer, Token},
    behavior::Fate,
    call::Call,
    journal::{ServerState, SharedState},
    record::SentFields,
    refusal::Refusal,
};
pub use self::{
    behavior::{Behavior, Fault, LimitResponse, Options, Outage, parse_fault},
    journal::{Entry, Journal},
    limiter::Limiter,
    profile::Profile,
    record::{Customer, Endpoint},
};

/// Maximum size of a request body; that of a customer is well below one KiB.
const BODY_MAX: usize = 1 << 20;

/// How long a request without a response is held: longer than any sensible client waits, yet bounded.
const HANG_MAX: Duration = Duration::from_secs(120);

/// Backlog of the listener, the same as tokio's default.
const BACKLOG: u32 = 1024;

/// A running simulator. Dropping it stops it; [`Simulator::stop`] also waits until it has stopped.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    shared: Arc<SharedState>,
    listener_state: watch::Sender<ListenerState>,
    acceptor: JoinSet<()>,
}

/// Whether the acceptor accepts connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListenerState {
    Open,
    Refusing,
    Gone,
}

impl Simulator {
    /// Binds the address and serves until stopped or dropped.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn start(options: Options) -> io::Result<Simulator> {
        let listener = bind(options.listen)?.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(SharedState::new(options.seed, Behavior::new(&options)));
        let (listener_state, seen) = watch::channel(ListenerState::Open);
        let mut acceptor = JoinSet::new();
        acceptor.spawn(accept(listener, address, Arc::clone(&shared), seen));
        Ok(Simulator { address, shared, listener_state, acceptor })
    }

    /// The bound address, with its actual port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The journal of all requests and their effects.
    pub fn journal(&self) -> Journal {
        Journal(Arc::clone(&self.shared))
    }

    /// Changes the behavior from the next request on. The closure must not use the journal: both are behind one lock.
    pub fn reconfigure(&self, change: impl FnOnce(&mut Behavior)) {
        let mut state = self.shared.state();
        change(&mut state.behavior);
        let refuse = state.behavior.outage == Some(Outage::Refuse);
        // Still under the lock, so that of two changes the later one also takes effect last.
        self.listener_state.send_replace(if refuse { ListenerState::Refusing } else { ListenerState::Open });
    }

    /// Closes every connection and the listener, and waits until they are closed.
    pub async fn stop(mut self) {
        self.listener_state.send_replace(ListenerState::Gone);
        while self.acceptor.join_next().await.is_some() {}
    }
}

/// Listens again on a port that stayed bound, so that no other process could take it. A process that is being started
/// holds copies of all sockets for an instant, which may keep the port in use; then binding is retried.
async fn listen_again(port: io::Result<TcpSocket>, address: SocketAddr) -> TcpListener {
    const AGAIN: Duration = Duration::from_millis(5);
    let mut listener = port.and_then(|port| port.listen(BACKLOG));
    loop {
        match listener {
            Ok(listener) => return listener,
            Err(_) => sleep(AGAIN).await,
        }
        listener = bind(address).and_then(|port| port.listen(BACKLOG));
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Without this option, a port that just served connections stays in use for a minute. On systems other than Unix
    // the option would let other processes take the port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Owns the listener and every connection.
async fn accept(
    mut listener: TcpListener,
    address: SocketAddr,
    shared: Arc<SharedState>,
    mut listener_state: watch::Receiver<ListenerState>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = listener_state.wait_for(|listener_state| *listener_state != ListenerState::Open) => {}
            never = accept_connections(&listener, &shared, &mut connections) => match never {},
        }
        // A server that is down has no connections. They are closed first; those that wait to be accepted are closed with
        // the listener.
        connections.shutdown().await;
        drop(listener);
        // Bound but not listening: the port refuses connections, and no other process can take it.
        let port = bind(address);
        match listener_state.wait_for(|listener_state| *listener_state != ListenerState::Refusing).await {
            Ok(listener_state) if *listener_state == ListenerState::Open => {}
            _ => return,
        }
        listener = listen_again(port, address).await;
    }
}

async fn accept_connections(
    listener: &TcpListener,
    shared: &Arc<SharedState>,
    connections: &mut JoinSet<()>,
) -> Infallible {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    shared.state().connections += 1;
                    connections.spawn(serve_connection(stream, Arc::clone(shared)));
                }
                // Most likely out of file descriptors: wait for some connections to end.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            // The set keeps finished tasks until they are joined.
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection until either side closes it.
async fn serve_connection(stream: TcpStream, shared: Arc<SharedState>) {
    // Without it, small responses wait for acknowledgements; a failure to set it costs only time.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| serve(&shared, request));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if (&mut connection).await.is_err_and(|error| error.is_user()) {
        // Caused by `Cut`: the client must see a reset, not an orderly end.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

/// Resets the connection instead of responding.
#[derive(Debug, thiserror::Error)]
#[error("the simulator cuts this connection")]
struct Cut;

/// How a request ends.
#[derive(Debug)]
enum End {
    Answer(Answer),
    Cut,
    Hang,
}

async fn serve(shared: &SharedState, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Cut> {
    let _in_flight = shared.enter();
    let (head, body) = request.into_parts();
    let body = read(body).await?;
    let mut call = Call::read(&head, body.as_deref());
    let mut admission = admit(&mut shared.state(), &mut call);
    if !admission.fate.works_first {
        pause(admission.fate.latency).await;
    }
    let end = finish(&mut shared.state(), call, &mut admission);
    if admission.fate.works_first {
        pause(admission.fate.latency).await;
    }
    match end {
        End::Answer(answer) => Ok(answer.into_response(admission.number)),
        End::Cut => Err(Cut),
        // A client that disconnects drops this future, so waiting blocks nothing.
        End::Hang => {
            sleep(HANG_MAX).await;
            Err(Cut)
        }
    }
}

/// Reads the body; `None` if it is too large, by its announced or its actual length.
async fn read(body: Incoming) -> Result<Option<Bytes>, Cut> {
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Ok(None);
    }
    match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => Ok(Some(body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Ok(None),
        // The client disconnected in the middle of the body.
        Err(_) => Err(Cut),
    }
}

async fn pause(latency: Duration) {
    // A sleep of zero would still cost a tick of the timer, a millisecond.
    if !latency.is_zero() {
        sleep(latency).await;
    }
}

/// The result of admitting a request.
struct Admission {
    number: u64,
    entry: Option<usize>,
    /// How the request ends, if it was refused.
    refused: Option<End>,
    reference: Arc<str>,
    attempt: u32,
    fate: Fate,
}

/// Counts a request, refuses it or numbers its attempt, and draws its fate.
fn admit(state: &mut ServerState, call: &mut Call<'_>) -> Admission {
    // Read under the lock, so that the entries of the journal are in order.
    let at = Instant::now();
    let number = state.count(call.endpoint);
    let refused = refuse_early(state, call, number, at);
    let (reference, attempt) = if refused.is_some() || call.name.is_empty() {
        (Arc::from(call.name.as_ref()), 0)
    } else {
        state.merchant(&call.merchant).attempt(call.endpoint, &call.name)
    };
    let fate = if refused.is_some() {
        Fate::default()
    } else {
        let fate = Fate::of(&state.behavior, state.seed, call.endpoint, &reference, attempt);
        Fate { latency: fate.latency + state.queue(at), ..fate }
    };
    let entry = state.record(|| {
        let reference = Arc::clone(&reference);
        Entry { at, endpoint: call.endpoint, reference, attempt, status: None, fault: fate.fault }
    });
    Admission { number, entry, refused, reference, attempt, fate }
}

/// Refuses a request before it reaches the API, in the order of the systems in front of it.
fn refuse_early(state: &mut ServerState, call: &mut Call<'_>, number: u64, now: Instant) -> Option<End> {
    let writes = call.endpoint != Endpoint::Get;
    // An outage of writes does not affect Get.
    let outage = state.behavior.outage.filter(|outage| writes || !outage.spares_get());
    let answer = match outage {
        Some(Outage::Refuse | Outage::Reset) => return Some(End::Cut),
        Some(Outage::Hang | Outage::WritesHang) => return Some(End::Hang),
        Some(Outage::Http500 | Outage::Writes500) => answer::INTERNAL,
        Some(Outage::Http503) => answer::UNAVAILABLE,
        None => {
            if let Some(to) = &state.behavior.redirect_to {
                Answer::redirect(to)
            } else if !state.has_room(now) {
                Answer::above_limit(state.behavior.limit_response, &state.behavior.retry_after)
            } else {
                refuse_caller(state, call, number)?
            }
        }
    };
    Some(End::Answer(answer))
}

/// Refuses a caller by its address, credentials and headers, before the request itself is read.
fn refuse_caller(state: &ServerState, call: &mut Call<'_>, number: u64) -> Option<Answer> {
    let profile = state.behavior.profile;
    let refusal = if state.behavior.forbidden {
        Refusal::BadOrigin(number)
    } else if !accepts(&state.behavior, call.key.as_deref()) || !state.is_merchant(&call.merchant) {
        Refusal::AccessDenied
    } else if let Some(protocol_error) = call.protocol_error.take() {
        return Some(protocol_error);
    } else if !call.is_routed && profile.requires_routing_id() {
        Refusal::NoRoutingId
    } else {
        return None;
    };
    Some(refusal.answer(profile))
}

fn accepts(behavior: &Behavior, key: Option<&str>) -> bool {
    let Some(key) = key else { return false };
    !behavior.key_revoked && behavior.api_key.as_ref().map_or(!key.starts_with("wrong"), |ours| ours == key)
}

/// Performs the call, unless the request was refused or a fault prevents it, and records how it ended.
fn finish(state: &mut ServerState, call: Call<'_>, admission: &mut Admission) -> End {
    let end = match (admission.refused.take(), admission.fate.fault) {
        (Some(end), _) => end,
        (None, None) => End::Answer(work(state, call, admission)),
        (None, Some(fault)) => fail(state, call, admission, fault),
    };
    if let End::Answer(answer) = &end {
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            state.count_throttled();
        }
        state.answered(admission.entry, answer.status.as_u16());
    }
    end
}

fn fail(state: &mut ServerState, call: Call<'_>, admission: &Admission, fault: Fault) -> End {
    let profile = state.behavior.profile;
    let another = format!("{}-another", admission.reference);
    let id = profile.customer_id(state.seed, &call.merchant, &another);
    if fault.does_the_work(admission.fate.coin) {
        work(state, call, admission);
    }
    End::Answer(match fault {
        Fault::ResetBefore | Fault::ResetAfter => return End::Cut,
        Fault::Timeout => return End::Hang,
        Fault::Http500 | Fault::Always500 | Fault::WriteAlways500 => answer::INTERNAL,
        Fault::Http503 => answer::UNAVAILABLE,
        Fault::Api503 => Answer::above_limit(LimitResponse::Api503, ""),
        Fault::Http429 | Fault::Always429 => {
            Answer::above_limit(LimitResponse::Api429, &state.behavior.retry_after)
        }
        Fault::Garbage => answer::GARBAGE,
        Fault::Flood => Answer::flood(),
        Fault::OkError => answer::OK_ERROR,
        Fault::WrongReference => {
            Answer::customer(&Customer::new(id, another.into(), SentFields::default(), clock()), None)
        }
        Fault::DuplicateRequest => Refusal::Duplicate.answer(profile),
        Fault::Reject => Refusal::Row(admission.fate.coin).answer(profile),
        Fault::NotFound => Refusal::NotFound.answer(profile),
    })
}

/// Performs the call as the API does without faults.
fn work(state: &mut ServerState, mut call: Call<'_>, admission: &Admission) -> Answer {
    let (seed, now, profile) = (state.seed, clock(), state.behavior.profile);
    let reference = &admission.reference;
    let wants_token =
        call.fields.client_auth_token && (call.endpoint != Endpoint::Get || profile.has_token_on_get());
    let merchant = state.merchant(&call.merchant);
    let customer = match call.endpoint {
        Endpoint::Create => match Refusal::of(profile, Endpoint::Create, reference, &call.fields) {
            Some(refusal) => Err(refusal),
            None => {
                profile.complete(Endpoint::Create, &mut call.fields);
                let id = profile.customer_id(seed, &call.merchant, reference);
                let customer = Customer::new(id, Arc::clone(reference), call.fields, now);
                merchant.create(customer).ok_or(Refusal::Unique)
            }
        },
        Endpoint::Get => merchant.find(reference).ok_or(Refusal::NotFound),
        Endpoint::Update if merchant.find(reference).is_none() => Err(Refusal::NotFound),
        Endpoint::Update => match Refusal::of(profile, Endpoint::Update, reference, &call.fields) {
            Some(refusal) => Err(refusal),
            None => {
                profile.complete(Endpoint::Update, &mut call.fields);
                merchant.update(reference, &mut call.fields, now).ok_or(Refusal::NotFound)
            }
        },
        Endpoint::Other => return answer::NO_SUCH_PATH,
    };
    match customer {
        Ok(customer) => {
            let token = wants_token.then(|| Token::new(seed, &customer.id, admission.attempt, now));
            Answer::customer(customer, token)
        }
        Err(refusal) => refusal.answer(profile),
    }
}

/// The clock of the simulated API: the only part of a response that the seed does not determine.
#[expect(clippy::disallowed_methods, reason = "a stand-in for a remote machine has a clock of its own")]
fn clock() -> SystemTime {
    SystemTime::now()
}
