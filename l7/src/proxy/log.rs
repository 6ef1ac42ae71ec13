//! One line for each request of a site that is logged: written on the core at the request's end, and handed to the
//! control thread that has the file ([`dataplane::lines`]). A request that is not logged pays for a test at its
//! start and one at its end.

use std::net::SocketAddr;

use dataplane::lines::LineWriter;
use dataplane::{Counters, Ctr, Hist, Slice, Time};

use super::exchange::{Exchange, ExchangeId};
use super::{Io, Proxy};
use crate::cache::policy::status::Fwd;
use crate::http1::{HeadScan, Parsed, RequestHead, SliceSink, parse_request};
use crate::phases::access_log::LINE_BYTES_MAX;
use crate::phases::{LogFormat, LogRecord, Mark, Timings};

/// Where and how a request is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogTo {
    /// The control side's number for the file.
    pub target: u16,
    /// How the line looks.
    pub format: LogFormat,
}

/// What an exchange keeps for its line.
#[derive(Default)]
pub(super) struct Logged {
    /// `None`: it is not logged.
    pub to: Option<LogTo>,
    /// The request's head; without it (it was malformed) the line says little.
    pub head: Option<Slice>,
}

/// What the cache had to do with a response that it gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CacheWord {
    /// Nothing: see why it was not asked, or did not have it.
    #[default]
    None,
    /// It was fresh.
    Hit,
    /// It was stale.
    Stale,
}

/// The core's end of the log.
pub(super) struct RequestLog {
    lines: LineWriter,
    line: Box<[u8]>,
    /// Mixed into the requests' numbers, so that those of several cores and runs differ.
    seed: u64,
}

impl RequestLog {
    /// Hands over a line that is no request's.
    pub fn put(&mut self, tag: u16, line: &[u8]) -> bool {
        self.lines.put(tag, line)
    }
}

impl Proxy {
    /// Lines go here from now on. `seed`: another one for each core and run.
    pub fn log_to(&mut self, lines: LineWriter, seed: u64) {
        self.log = Some(RequestLog { lines, line: vec![0; LINE_BYTES_MAX].into(), seed });
    }

    /// Writes the line of a request that is over, if it has one, once.
    pub(super) fn log_request(&mut self, x: ExchangeId) {
        if self.exchanges[x].logged.to.is_some() {
            self.write_line(x);
        }
    }

    #[cold]
    fn write_line(&mut self, x: ExchangeId) {
        let logged = std::mem::take(&mut self.exchanges[x].logged);
        let (Some(to), Some(log)) = (logged.to, &mut self.log) else { return };
        self.logged = self.logged.wrapping_add(1);
        let mut record = record(&self.exchanges[x], self.unix_ns_at_start);
        record.request_id = mixed(log.seed.wrapping_add(self.logged));
        let mut bench = self.bench.take();
        let http = self.current.program.config.http;
        let parsed = match (&logged.head, &mut bench) {
            (Some(head), Some(bench)) => {
                parse_request(head, &mut HeadScan::new(), &http, &mut bench.slots).ok()
            }
            _ => None,
        };
        if let Some(Parsed::Complete(head, _)) = &parsed {
            record = with_head(record, head);
        }
        let mut sink = SliceSink::new(&mut log.line);
        let written = record.write(to.format, &mut sink).is_ok();
        let is_put = written && log.lines.put(to.target, sink.written());
        self.counters.inc(if is_put { Ctr::LogLines } else { Ctr::LogDropped });
        self.bench = bench;
    }
}

fn record(e: &Exchange, unix_ns_at_start: u64) -> LogRecord<'static> {
    LogRecord {
        unix_us: (unix_ns_at_start + e.started.0) / 1_000,
        client: e.peer,
        method: b"",
        target: b"",
        host: b"",
        version: e.version,
        status: e.status,
        body_bytes: e.down.body,
        cache: match (e.cache_word, e.fwd) {
            (CacheWord::Hit, _) => b"HIT",
            (CacheWord::Stale, _) => b"STALE",
            (CacheWord::None, None) => b"",
            (_, Some(Fwd::UriMiss | Fwd::VaryMiss | Fwd::Miss)) => b"MISS",
            (_, Some(Fwd::Partial)) => b"PARTIAL",
            (_, Some(Fwd::Stale | Fwd::Request)) => b"EXPIRED",
            (_, Some(Fwd::Bypass | Fwd::Method)) => b"BYPASS",
        },
        origin: e.asked,
        timings: e.timings,
        user_agent: b"",
        referer: b"",
        request_id: 0,
    }
}

fn with_head<'h>(record: LogRecord<'h>, head: &RequestHead<'h>) -> LogRecord<'h> {
    let field = |name: &[u8]| head.headers().get(name).unwrap_or_default();
    LogRecord {
        method: head.method_bytes(),
        target: head.target(),
        host: head.host(),
        user_agent: field(b"user-agent"),
        referer: field(b"referer"),
        ..record
    }
}

/// A one-to-one mix (splitmix64's): different numbers stay different, and do not look like a row.
fn mixed(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

impl Exchange {
    /// The request's head is taken: what is known of it from here on.
    pub(super) fn begin_log(&mut self, now: Time) {
        self.timings = Timings::start(now.0);
        self.status = 0;
        self.asked = None;
        self.cache_word = CacheWord::None;
    }

    /// The request goes to an origin, on the connection that the exchange has.
    pub(super) fn asks_origin(&mut self, io: &Io<'_>, counters: &Counters) {
        let first = self.timings.wait_us().is_none();
        self.timings.mark(Mark::ConnectStart, io.now.0);
        if self.connected {
            self.timings.mark(Mark::Connected, io.now.0);
            self.timings.mark(Mark::RequestSent, io.now.0);
        }
        let tuple = io.tcp.tuple(self.origin);
        self.asked = Some(SocketAddr::new(tuple.remote.ip(), tuple.remote_port));
        if first {
            counters.record(Hist::OriginWait, io.now.since_ns(self.started));
        }
    }

    /// The head of an origin's final response has come.
    pub(super) fn origin_answers(&mut self, now: Time, counters: &Counters) {
        self.timings.mark(Mark::OriginFirstByte, now.0);
        if let Some(us) = self.timings.origin_first_byte_us() {
            counters.record(Hist::OriginFirstByte, u64::from(us) * 1_000);
        }
    }

    /// `fetch` has gone the way to the origin for this exchange.
    pub(super) fn takes_way_of(&mut self, asked: Option<SocketAddr>, fetch: &Timings) {
        self.asked = asked;
        self.timings.take_origin(fetch);
    }
}
