//! The demo's built-in origin: a small HTTP/1.1 server on kernel sockets, in a thread of its own.
//!
//! It stands behind the node, never in front: what a browser sees of it has come through Millrace's own stack. Its
//! objects are chosen to show what a proxy has to get right: sizes, chunked bodies, slow and failing answers,
//! uploads. No two answers depend on each other, and every body can be checked (see [`byte_at`]).
//!
//! | Path | Answer |
//! |---|---|
//! | `/` | the page |
//! | `/stats.json` | whatever the closure says, for the page's panel |
//! | `/cacheable` | fixed, `max-age=60`, `ETag`; 304 to `If-None-Match` |
//! | `/uncacheable` | `no-store`, another body each time |
//! | `/slow` | first byte after 2 s, then eight more pieces, 250 ms apart |
//! | `/large`, `/large?chunked` | 16 MiB, with `Content-Length` or chunked |
//! | `/bytes/N` | N bytes, up to 1 GiB |
//! | `/fail`, `/fail/close` | 500; the connection closes in the middle of the body |
//! | `/echo` | POST or PUT: how many bytes arrived |

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::body::Answer;
pub use super::body::byte_at;

/// What `/stats.json` answers; called on the origin's thread, once a second per open page.
pub type StatsJson = Arc<dyn Fn() -> String + Send + Sync>;

/// Length of `/large`.
pub const LARGE_BYTES: u64 = 16 << 20;
/// Largest N of `/bytes/N`.
pub const BYTES_MAX: u64 = 1 << 30;
/// Before the first byte of `/slow`.
pub const SLOW_FIRST_BYTE: Duration = Duration::from_secs(2);

const SLOW_PIECES: u32 = 9;
const SLOW_EVERY: Duration = Duration::from_millis(250);
/// How long answers under way may take once the origin is told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
const CACHEABLE_ETAG: &str = "\"millrace-demo-1\"";

/// The running origin; stops when dropped.
#[derive(Debug)]
pub struct DemoOrigin {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the origin on a free port of 127.0.0.1.
pub fn start(stats_json: StatsJson) -> io::Result<DemoOrigin> {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name("demo-origin".into()).spawn(move || {
        // Fails only without a runtime: there is one.
        runtime.block_on(async {
            if let Ok(listener) = TcpListener::from_std(listener) {
                serve(listener, stopped, stats_json).await;
            }
        });
        // Whoever is still in the middle of a gigabyte loses it here.
        runtime.shutdown_background();
    })?;
    Ok(DemoOrigin { address, stop: Some(stop), thread: Some(thread) })
}

impl DemoOrigin {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets answers under way end for up to two seconds, and waits for the thread.
    pub fn shutdown(mut self) {
        self.stop_and_wait();
    }

    fn stop_and_wait(&mut self) {
        // Without a receiver the thread has ended already.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for DemoOrigin {
    fn drop(&mut self) {
        self.stop_and_wait();
    }
}

async fn serve(listener: TcpListener, mut stopped: oneshot::Receiver<()>, stats_json: StatsJson) {
    let site = Arc::new(Site { stats_json, requests: AtomicU64::new(0) });
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            // A sender that was dropped means the same.
            _ = &mut stopped => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => spawn(stream, &connections, Arc::clone(&site)),
            // Out of descriptors, most likely: give the others time to end.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(STOP_PATIENCE, connections.shutdown()).await;
}

fn spawn(stream: TcpStream, connections: &GracefulShutdown, site: Arc<Site>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        // A client that ends its half still gets its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        // An error is the client's or was asked for (`/fail/close`).
        let _ = connection.await;
    });
}

struct Site {
    stats_json: StatsJson,
    requests: AtomicU64,
}

impl Site {
    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let path = request.uri().path();
        if path == "/echo" {
            return echo(request).await;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only, except on /echo\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/" => page(),
            "/stats.json" => {
                respond(StatusCode::OK, "application/json", "no-store", Answer::whole((self.stats_json)()))
            }
            "/cacheable" => cacheable(&request),
            "/uncacheable" => {
                let body = format!("request {number} of this origin: never the same twice\n");
                respond(StatusCode::OK, TEXT, "no-store", Answer::whole(body))
            }
            "/slow" => {
                let body = Answer::drip(SLOW_FIRST_BYTE, SLOW_PIECES, SLOW_EVERY);
                // The head waits too: what is slow here is the origin, not its body alone.
                tokio::time::sleep(SLOW_FIRST_BYTE).await;
                respond(StatusCode::OK, TEXT, "no-store", body)
            }
            "/large" => {
                let sized = request.uri().query() != Some("chunked");
                respond(StatusCode::OK, TEXT, "no-store", Answer::pattern(LARGE_BYTES, sized))
            }
            "/fail" => text(StatusCode::INTERNAL_SERVER_ERROR, "failed, as asked\n"),
            "/fail/close" => broken(),
            _ => match path.strip_prefix("/bytes/").map(str::parse::<u64>) {
                Some(Ok(n)) if n <= BYTES_MAX => {
                    respond(StatusCode::OK, TEXT, "no-store", Answer::pattern(n, true))
                }
                Some(_) => text(StatusCode::BAD_REQUEST, "/bytes/N takes a number up to 1073741824\n"),
                None => text(StatusCode::NOT_FOUND, "no such object: see / for those that there are\n"),
            },
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

fn page() -> Response<Answer> {
    let body = Answer::whole(include_str!("page.html"));
    let mut response = respond(StatusCode::OK, "text/html; charset=utf-8", "no-cache", body);
    // Nothing from elsewhere: the page has to work on a machine without a network.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                  img-src data:; base-uri 'none'; form-action 'none'";
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}

fn cacheable(request: &Request<Incoming>) -> Response<Answer> {
    let known = request.headers().get(header::IF_NONE_MATCH);
    let fresh = known.and_then(|v| v.to_str().ok()).is_some_and(|list| {
        list.split(',').any(|tag| tag.trim().trim_start_matches("W/") == CACHEABLE_ETAG || tag.trim() == "*")
    });
    let (status, body) = if fresh {
        (StatusCode::NOT_MODIFIED, Answer::Whole(None))
    } else {
        (StatusCode::OK, Answer::whole("the same for everybody, for a minute\n"))
    };
    let mut response = respond(status, TEXT, "max-age=60", body);
    response.headers_mut().insert(header::ETAG, HeaderValue::from_static(CACHEABLE_ETAG));
    response
}

fn broken() -> Response<Answer> {
    let body = Answer::broken("the rest of this body never comes\n");
    let mut response = respond(StatusCode::OK, TEXT, "no-store", body);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("65536"));
    response
}

async fn echo(request: Request<Incoming>) -> Response<Answer> {
    if !matches!(*request.method(), Method::POST | Method::PUT) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "POST or PUT something here\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, PUT"));
        return response;
    }
    let mut body = request.into_body();
    let mut length: u64 = 0;
    // Counted as it comes and forgotten: an upload may be larger than the memory.
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => length += frame.data_ref().map_or(0, |data| data.len() as u64),
            Err(_) => return text(StatusCode::BAD_REQUEST, "the upload broke off\n"),
        }
    }
    let answer = format!("{{\"length\":{length}}}\n");
    respond(StatusCode::OK, "application/json", "no-store", Answer::whole(answer))
}

fn text(status: StatusCode, body: &'static str) -> Response<Answer> {
    respond(status, TEXT, "no-store", Answer::whole(body))
}

fn respond(status: StatusCode, kind: &'static str, caching: &'static str, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
