//! The HTTP door of the monitors: `GET /metrics` and `GET /health`, nothing else.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;

use super::PATIENCE;
use crate::dispatch::Desk;
use crate::socket::NoListener;

/// What Prometheus' text format is called; the exposition ends with `# EOF`.
const PAGE_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// So many monitors at once.
const MOST: usize = 16;

/// The monitors' door, not yet open.
pub(crate) struct MetricsDoor {
    listener: TcpListener,
    address: SocketAddr,
}

impl MetricsDoor {
    /// Takes the address.
    ///
    /// # Errors
    /// [`NoListener`] when somebody else has it.
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, NoListener> {
        let refuse = |why: std::io::Error| NoListener(format!("metrics.bind: cannot listen on {address}: {why}"));
        let listener = TcpListener::bind(address).map_err(refuse)?;
        listener.set_nonblocking(true).map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        Ok(MetricsDoor { listener, address })
    }

    /// Where it listens: a port of 0 has become a real one.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves on a thread of its own until the process ends.
    ///
    /// # Errors
    /// [`NoListener`] when there is no thread for it.
    pub(crate) fn open(self, desk: Arc<Desk>) -> Result<(), NoListener> {
        let refuse = |why: std::io::Error| NoListener(format!("metrics.bind: {why}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refuse)?;
        let thread = std::thread::Builder::new().name("metrics".to_owned());
        thread.spawn(move || runtime.block_on(serve(self.listener, desk))).map(drop).map_err(refuse)
    }
}

async fn serve(listener: TcpListener, desk: Arc<Desk>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "metrics are not served"),
    };
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a monitor could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let answer = answer(&desk, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .keep_alive(false)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, connection).await {
                tracing::debug!(%error, "a monitor's connection broke");
            }
            drop(place);
        });
    }
}

fn answer(desk: &Desk, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n".to_owned());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match request.uri().path() {
        "/metrics" => page(StatusCode::OK, PAGE_TYPE, desk.metrics.page(&desk.hsm)),
        "/health" => {
            // Why it is not well is for those who may ask the daemon itself.
            let status = desk.hsm.status();
            match (status.sealed, status.health.as_str()) {
                (false, "ok") => plain(StatusCode::OK, "ok\n".to_owned()),
                (true, _) => plain(StatusCode::SERVICE_UNAVAILABLE, "sealed\n".to_owned()),
                _ => plain(StatusCode::SERVICE_UNAVAILABLE, "not well\n".to_owned()),
            }
        }
        _ => plain(StatusCode::NOT_FOUND, "here are /metrics and /health\n".to_owned()),
    }
}

fn plain(code: StatusCode, text: String) -> Response<Full<Bytes>> {
    page(code, PLAIN, text)
}

fn page(code: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
