//! Serves `GET /metrics` while a run is running.
//!
//! Serves metrics and nothing else. A slow or silent client delays nothing and is disconnected after a timeout.

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

/// Maximum number of simultaneous connections: there are one or two Prometheus servers, and each connection is an open
/// file.
const CONNECTIONS_MAX: usize = 8;

/// Timeout of one connection. Prometheus gives up after ten seconds by default.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Delay before `accept` is called again after an error.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_secs(1);

const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A server that is bound to its address but not serving yet.
pub struct MetricsServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl MetricsServer {
    /// Binds the address; port 0 chooses a free port.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn bind(address: SocketAddr) -> io::Result<MetricsServer> {
        let listener = TcpListener::bind(address).await?;
        Ok(MetricsServer { address: listener.local_addr()?, listener })
    }

    /// The bound address, with its port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the future is dropped.
    pub async fn serve(self, metrics: Arc<Metrics>) {
        let mut connections = JoinSet::new();
        let mut retry_timer = interval(ACCEPT_RETRY_DELAY);
        loop {
            while connections.len() >= CONNECTIONS_MAX {
                connections.join_next().await;
            }
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(serve_connection(stream, Arc::clone(&metrics)));
                    }
                    // Most likely too many open files: an immediate retry would not help.
                    Err(error) => {
                        warn!(%error, "metrics endpoint stopped accepting connections");
                        retry_timer.reset();
                        retry_timer.tick().await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, metrics: Arc<Metrics>) {
    let service = service_fn(move |request| {
        let metrics = Arc::clone(&metrics);
        async move { Ok::<_, Infallible>(answer(&request, &metrics)) }
    });
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    // A client that does not read its response is not an error.
    drop(timeout(CONNECTION_TIMEOUT, connection).await);
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let respond = |status, kind, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    };
    if request.uri().path() != "/metrics" {
        return respond(StatusCode::NOT_FOUND, PLAIN, "metrics are at /metrics\n".into());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "metrics can be read\n".into());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    respond(StatusCode::OK, OPEN_METRICS, metrics.text())
}
