//! An HTTP server that behaves like Juspay's customers API, with seeded faults and a journal.
//!
//! Promises:
//! * It shares no code and no wire types with the client, so both ends cannot agree on the same
//!   mistake. It is written from the API's page, not from what our client happens to send.
//! * At most one customer per merchant and reference, whatever arrives at once.
//! * Faults, latency, ids and tokens depend on the seed, the reference and the number of the attempt,
//!   never on the order in which requests meet (see `behavior`).
//! * Nothing that arrives can make it panic, and it prints nothing.
//!
//! What it does not simulate: TLS; any call but Create, Get and Update of a customer; the syntax of
//! e-mail addresses, names and numbers (only what is mandatory, lengths, and that no number is
//! negative); merchants' accounts, so that any merchant id is a merchant; the API's true rate
//! limits, latencies and lags, which nobody publishes; how long a client token lives; and anything
//! across a restart: a new simulator knows no customer. An answer it gives is no proof that Juspay
//! gives the same; `api.md` says which answers are documented and which are observed.
//!
//! `call` reads a request, `profile` is whose API it is, `answer` and `refusal` have the words, `behavior` is what
//! it can be told, `limiter` how it counts, `journal` what it remembers; here are the connections, and what
//! becomes of each request.

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
    call::{Call, Fields},
    journal::{Memory, State},
    refusal::Refusal,
};
pub use self::{
    behavior::{Behavior, Fault, Options, Outage, Step, parse_fault},
    journal::{Customer, Entry, Journal},
    limiter::Limiter,
    profile::Profile,
};

/// The largest body that is read; a customer's is well below one KiB.
const BODY_MAX: usize = 1 << 20;

/// How long an unanswered request is held: longer than any sensible client waits, yet bounded.
const HANG_MAX: Duration = Duration::from_secs(120);

/// Connections that wait to be accepted, as tokio's own listener has it.
const BACKLOG: u32 = 1024;

/// A running simulator; dropping it ends it, [`Simulator::stop`] also waits for the end.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    memory: Arc<Memory>,
    door: watch::Sender<Door>,
    acceptor: JoinSet<()>,
}

/// What the acceptor does with those who knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    Refusing,
    Gone,
}

impl Simulator {
    /// Binds, and serves until it is stopped or dropped.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub async fn start(options: Options) -> io::Result<Simulator> {
        let listener = bind(options.listen)?.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let memory = Arc::new(Memory::new(options.seed, Behavior::new(&options)));
        let (door, seen) = watch::channel(Door::Open);
        let mut acceptor = JoinSet::new();
        acceptor.spawn(accept(listener, address, Arc::clone(&memory), seen));
        Ok(Simulator { address, memory, door, acceptor })
    }

    /// The address that was bound, with the port that port 0 turned into.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its account of what it was asked and did.
    pub fn journal(&self) -> Journal {
        Journal(Arc::clone(&self.memory))
    }

    /// Changes how it behaves from the next request on. The closure must not ask the journal: both
    /// are behind one lock.
    pub fn reconfigure(&self, change: impl FnOnce(&mut Behavior)) {
        let mut state = self.memory.state();
        change(&mut state.behavior);
        let refuse = state.behavior.outage == Some(Outage::Refuse);
        // Still under the lock, so that of two changes the later one also moves the door last.
        self.door.send_replace(if refuse { Door::Refusing } else { Door::Open });
    }

    /// Ends every connection and the listener, and returns when they are gone.
    pub async fn stop(mut self) {
        self.door.send_replace(Door::Gone);
        while self.acceptor.join_next().await.is_some() {}
    }
}

/// Takes the port without serving it yet: between two such sockets nobody else can get it.
/// A process that is being started holds copies of all sockets for an instant, and so may keep the
/// port taken between two of ours: then it is tried again.
async fn reopen(port: io::Result<TcpSocket>, address: SocketAddr) -> TcpListener {
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
    // Otherwise a port that just served connections stays taken for a minute. Elsewhere than on
    // Unix the option means that others may steal the port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Owns the listener and every connection.
async fn accept(
    mut listener: TcpListener,
    address: SocketAddr,
    memory: Arc<Memory>,
    mut door: watch::Receiver<Door>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = door.wait_for(|door| *door != Door::Open) => {}
            never = welcome(&listener, &memory, &mut connections) => match never {},
        }
        // A server that is down has no connections either. They go first: those that wait to be
        // accepted then go with the listener.
        connections.shutdown().await;
        drop(listener);
        // Bound but not listening, the port refuses connections and stays ours.
        let port = bind(address);
        match door.wait_for(|door| *door != Door::Refusing).await {
            Ok(door) if *door == Door::Open => {}
            _ => return,
        }
        listener = reopen(port, address).await;
    }
}

async fn welcome(listener: &TcpListener, memory: &Arc<Memory>, connections: &mut JoinSet<()>) -> Infallible {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    memory.state().connections += 1;
                    connections.spawn(converse(stream, Arc::clone(memory)));
                }
                // Out of file descriptors, most likely: let some connections end first.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            // The set keeps what has ended until it is asked.
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection until either side has enough of it.
async fn converse(stream: TcpStream, memory: Arc<Memory>) {
    // Without it small answers wait for acknowledgements; failing to set it costs only time.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| serve(&memory, request));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if (&mut connection).await.is_err_and(|error| error.is_user()) {
        // Our own `Cut`: the client shall see a reset, not an orderly end.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

/// The connection is to be reset instead of answered.
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

async fn serve(memory: &Memory, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Cut> {
    let _in_flight = memory.enter();
    let (head, body) = request.into_parts();
    let body = read(body).await?;
    let mut call = Call::read(&head, body.as_deref());
    let mut visit = admit(&mut memory.state(), &mut call);
    if !visit.fate.works_first {
        pause(visit.fate.latency).await;
    }
    let end = finish(&mut memory.state(), call, &mut visit);
    if visit.fate.works_first {
        pause(visit.fate.latency).await;
    }
    match end {
        End::Answer(answer) => Ok(answer.into_response(visit.number)),
        End::Cut => Err(Cut),
        // A client that goes away drops this future, so that waiting holds up nobody.
        End::Hang => {
            sleep(HANG_MAX).await;
            Err(Cut)
        }
    }
}

/// `None` where the body is too large, be it that the client announced it or only sent it.
async fn read(body: Incoming) -> Result<Option<Bytes>, Cut> {
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Ok(None);
    }
    match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => Ok(Some(body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Ok(None),
        // The client went away in the middle of it.
        Err(_) => Err(Cut),
    }
}

async fn pause(latency: Duration) {
    // A sleep of nothing still costs a turn of the timer, a millisecond.
    if !latency.is_zero() {
        sleep(latency).await;
    }
}

/// What the door decided about one request.
struct Visit {
    number: u64,
    entry: Option<usize>,
    /// How it ends where it was turned away.
    turned_away: Option<End>,
    reference: Arc<str>,
    attempt: u32,
    fate: Fate,
}

/// Counts, turns away or numbers a request, and draws its fate.
fn admit(state: &mut State, call: &mut Call<'_>) -> Visit {
    // Read under the lock, so that the journal's entries are in order.
    let at = Instant::now();
    let number = state.count(call.step);
    let turned_away = turn_away(state, call, number, at);
    let (reference, attempt) = if turned_away.is_some() || call.name.is_empty() {
        (Arc::from(call.name.as_ref()), 0)
    } else {
        state.merchant(&call.merchant).attempt(call.step, &call.name)
    };
    let fate = if turned_away.is_some() {
        Fate::default()
    } else {
        let fate = Fate::of(&state.behavior, state.seed, call.step, &reference, attempt);
        Fate { latency: fate.latency + state.queue(at), ..fate }
    };
    let entry = state.record(|| {
        let reference = Arc::clone(&reference);
        Entry { at, step: call.step, reference, attempt, status: None, fault: fate.fault }
    });
    Visit { number, entry, turned_away, reference, attempt, fate }
}

/// Who does not get as far as the API itself, in the order of what stands in front of it.
fn turn_away(state: &mut State, call: &mut Call<'_>, number: u64, now: Instant) -> Option<End> {
    let writes = call.step != Step::Get;
    // An outage of writes is none for a question.
    let outage = state.behavior.outage.filter(|outage| writes || !outage.spares_questions());
    let answer = match outage {
        Some(Outage::Refuse | Outage::Reset) => return Some(End::Cut),
        Some(Outage::Hang | Outage::WritesHang) => return Some(End::Hang),
        Some(Outage::Http500 | Outage::Writes500) => answer::INTERNAL,
        Some(Outage::Http503) => answer::UNAVAILABLE,
        None => {
            if let Some(to) = &state.behavior.redirect_to {
                Answer::redirect(to)
            } else if !state.has_room(now) {
                Answer::throttled(&state.behavior.retry_after)
            } else {
                refuse_at_the_door(state, call, number)?
            }
        }
    };
    Some(End::Answer(answer))
}

/// Who asks from where, as whom and about what comes before what is asked.
fn refuse_at_the_door(state: &State, call: &mut Call<'_>, number: u64) -> Option<Answer> {
    let profile = state.behavior.profile;
    let refusal = if state.behavior.forbidden {
        Refusal::BadOrigin(number)
    } else if !accepts(&state.behavior, call.key.as_deref()) || !state.is_merchant(&call.merchant) {
        Refusal::AccessDenied
    } else if let Some(misfit) = call.misfit.take() {
        return Some(misfit);
    } else if !call.is_routed && profile.wants_routing_id() {
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

/// Does the work, unless the request was turned away or a fault forbids it, and writes down the end.
fn finish(state: &mut State, call: Call<'_>, visit: &mut Visit) -> End {
    let end = match (visit.turned_away.take(), visit.fate.fault) {
        (Some(end), _) => end,
        (None, None) => End::Answer(work(state, call, visit)),
        (None, Some(fault)) => fail(state, call, visit, fault),
    };
    if let End::Answer(answer) = &end {
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            state.count_throttled();
        }
        state.answered(visit.entry, answer.status.as_u16());
    }
    end
}

fn fail(state: &mut State, call: Call<'_>, visit: &Visit, fault: Fault) -> End {
    let profile = state.behavior.profile;
    let another = format!("{}-another", visit.reference);
    let id = profile.customer_id(state.seed, &call.merchant, &another);
    if fault.does_the_work(visit.fate.coin) {
        work(state, call, visit);
    }
    End::Answer(match fault {
        Fault::ResetBefore | Fault::ResetAfter => return End::Cut,
        Fault::Timeout => return End::Hang,
        Fault::Http500 | Fault::Always500 | Fault::WriteAlways500 => answer::INTERNAL,
        Fault::Http503 => answer::UNAVAILABLE,
        Fault::Http429 => Answer::throttled(&state.behavior.retry_after),
        Fault::Garbage => answer::GARBAGE,
        Fault::Flood => Answer::flood(),
        Fault::OkError => answer::OK_ERROR,
        Fault::WrongReference => {
            Answer::customer(&Customer::new(id, another.into(), Fields::default(), clock()), None)
        }
        Fault::DuplicateRequest => Refusal::Duplicate.answer(profile),
        Fault::Reject => Refusal::Row(visit.fate.coin).answer(profile),
        Fault::NotFound => Refusal::NotFound.answer(profile),
    })
}

/// What the API does where nothing goes wrong.
fn work(state: &mut State, mut call: Call<'_>, visit: &Visit) -> Answer {
    let (seed, now, profile) = (state.seed, clock(), state.behavior.profile);
    let reference = &visit.reference;
    let wants_token = call.fields.client_auth_token && (call.step != Step::Get || profile.has_token_on_get());
    let merchant = state.merchant(&call.merchant);
    let customer = match call.step {
        Step::Create => match profile.refuses(Step::Create, reference, &call.fields) {
            Some(refusal) => Err(refusal),
            None => {
                profile.complete(Step::Create, &mut call.fields);
                let id = profile.customer_id(seed, &call.merchant, reference);
                let customer = Customer::new(id, Arc::clone(reference), call.fields, now);
                merchant.create(customer).ok_or(Refusal::Unique)
            }
        },
        Step::Get => merchant.find(reference).ok_or(Refusal::NotFound),
        Step::Update if merchant.find(reference).is_none() => Err(Refusal::NotFound),
        Step::Update => match profile.refuses(Step::Update, reference, &call.fields) {
            Some(refusal) => Err(refusal),
            None => {
                profile.complete(Step::Update, &mut call.fields);
                merchant.update(reference, &mut call.fields, now).ok_or(Refusal::NotFound)
            }
        },
        Step::Other => return answer::NO_SUCH_PATH,
    };
    match customer {
        Ok(customer) => {
            let token = wants_token.then(|| Token::new(seed, &customer.id, visit.attempt, now));
            Answer::customer(customer, token)
        }
        Err(refusal) => refusal.answer(profile),
    }
}

/// The simulated API's own clock: the one thing about an answer that no seed decides.
#[expect(clippy::disallowed_methods, reason = "a stand-in for a remote machine has a clock of its own")]
fn clock() -> SystemTime {
    SystemTime::now()
}
