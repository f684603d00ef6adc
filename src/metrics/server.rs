//! `GET /metrics`, for as long as a run goes on.
//!
//! Whoever asks gets the figures and nothing else; a slow or silent caller holds nothing up and is
//! dropped after a while.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{interval, timeout},
};
use tracing::warn;

use super::Metrics;

/// Callers at a time. There is one Prometheus, or two; each is a file that is open.
const CALLERS_MAX: usize = 8;

/// For one call. Prometheus gives up after ten seconds by default.
const CALL_MAX: Duration = Duration::from_secs(10);

/// Before the door is tried again that could not be opened.
const BREATH: Duration = Duration::from_secs(1);

const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// An address that is listened on; nobody is answered yet.
pub struct MetricsServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl MetricsServer {
    /// Takes the address; port 0 is any that is free.
    ///
    /// # Errors
    /// Where it cannot be had.
    pub async fn bind(address: SocketAddr) -> io::Result<MetricsServer> {
        let listener = TcpListener::bind(address).await?;
        Ok(MetricsServer { address: listener.local_addr()?, listener })
    }

    /// The address with its port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers for as long as it is polled.
    pub async fn serve(self, metrics: Arc<Metrics>) {
        let mut calls = JoinSet::new();
        let mut breath = interval(BREATH);
        loop {
            while calls.len() >= CALLERS_MAX {
                calls.join_next().await;
            }
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        calls.spawn(call(stream, Arc::clone(&metrics)));
                    }
                    // Too many open files, most likely: it does not help to ask at once again.
                    Err(error) => {
                        warn!(%error, "nobody can ask for metrics");
                        breath.reset();
                        breath.tick().await;
                    }
                },
                Some(_) = calls.join_next() => {}
            }
        }
    }
}

async fn call(stream: TcpStream, metrics: Arc<Metrics>) {
    let service = service_fn(move |request| {
        let metrics = Arc::clone(&metrics);
        async move { Ok::<_, Infallible>(answer(&request, &metrics)) }
    });
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    // Whether the caller took the answer is the caller's business.
    drop(timeout(CALL_MAX, connection).await);
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let say = |status, kind, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    };
    if request.uri().path() != "/metrics" {
        return say(StatusCode::NOT_FOUND, PLAIN, "metrics are at /metrics\n".into());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = say(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "metrics can be read\n".into());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    say(StatusCode::OK, OPEN_METRICS, metrics.text())
}
