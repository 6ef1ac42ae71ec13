//! One line for each exchange, as text or as JSON, allocated nowhere and never broken: whatever bytes a client
//! sent, a line is one line, quotes pair up, JSON parses, and what is too long is cut where it may be cut and
//! ends in `...`.
//!
//! ```text
//! 192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] "GET /a?b HTTP/1.1" 200 1024 "-" "curl/8" "a.example" MISS
//!     198.51.100.1:80 wait=3 connect=210 origin=1840 first=2101 last=2550 id=00000000000000ff   (all in one line)
//! ```

use core::net::{IpAddr, SocketAddr};

use super::ctx::{Ctx, Flow};
use super::fields::{Fields, Phase};
use super::filter::Filter;
use super::program::Module;
use super::quoting::{HEX, put_escaped, put_json, put_word};
use super::timings::Timings;
use crate::http1::bytes::format_decimal;
use crate::http1::http_date;
use crate::http1::rewrite::put_ip;
use crate::http1::{Full, HeadSink, Version};

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
    /// The combined format, which everything reads, and more after it.
    Text,
    /// One JSON object a line.
    Json,
}

// What each field may take in a line, escapes included, the `...` at the end of one that is cut not.
const METHOD_BYTES_MAX: usize = 32;
const TARGET_BYTES_MAX: usize = 1024;
const HOST_BYTES_MAX: usize = 255;
const CACHE_BYTES_MAX: usize = 64;
const REFERER_BYTES_MAX: usize = 512;
const USER_AGENT_BYTES_MAX: usize = 512;
/// All that is not one of them: names, numbers, addresses, the time, quotes and dots.
const REST_BYTES_MAX: usize = 700;

/// No line is longer than this, whatever the request: a sink with this much room never is too small.
pub const LINE_BYTES_MAX: usize = METHOD_BYTES_MAX
    + TARGET_BYTES_MAX
    + HOST_BYTES_MAX
    + CACHE_BYTES_MAX
    + REFERER_BYTES_MAX
    + USER_AGENT_BYTES_MAX
    + REST_BYTES_MAX;

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
    /// Writes the record as one line, at most [`LINE_BYTES_MAX`] bytes.
    pub fn write(&self, format: LogFormat, sink: &mut (impl HeadSink + ?Sized)) -> Result<(), Full> {
        match format {
            LogFormat::Text => self.write_text(sink),
            LogFormat::Json => self.write_json(sink),
        }
    }

    fn write_text(&self, sink: &mut (impl HeadSink + ?Sized)) -> Result<(), Full> {
        put_ip(self.client, sink)?;
        // `Sun, 06 Nov 1994 08:49:37 GMT`, in another order.
        let date = http_date::format(self.unix_us / 1_000_000);
        for piece in [b" - - [", &date[5..7], b"/", &date[8..11], b"/", &date[12..16], b":", &date[17..25]] {
            sink.put(piece)?;
        }
        sink.put(b" +0000] \"")?;
        put_escaped(self.method, METHOD_BYTES_MAX, sink)?;
        sink.put(b" ")?;
        put_escaped(self.target, TARGET_BYTES_MAX, sink)?;
        sink.put(b" ")?;
        sink.put(self.version.as_bytes())?;
        sink.put(b"\" ")?;
        put_number(u64::from(self.status), sink)?;
        sink.put(b" ")?;
        put_number(self.body_bytes, sink)?;
        for (value, max) in [
            (self.referer, REFERER_BYTES_MAX),
            (self.user_agent, USER_AGENT_BYTES_MAX),
            (self.host, HOST_BYTES_MAX),
        ] {
            sink.put(b" \"")?;
            put_escaped(if value.is_empty() { b"-" } else { value }, max, sink)?;
            sink.put(b"\"")?;
        }
        sink.put(b" ")?;
        put_word(self.cache, CACHE_BYTES_MAX, sink)?;
        sink.put(b" ")?;
        match self.origin {
            None => sink.put(b"-")?,
            Some(origin) => put_socket_address(origin, sink)?,
        }
        for (name, us) in self.durations(&[b" wait=", b" connect=", b" origin=", b" first=", b" last="]) {
            sink.put(name)?;
            match us {
                None => sink.put(b"-")?,
                Some(us) => put_number(u64::from(us), sink)?,
            }
        }
        sink.put(b" id=")?;
        sink.put(&hex16(self.request_id))?;
        sink.put(b"\n")
    }

    fn write_json(&self, sink: &mut (impl HeadSink + ?Sized)) -> Result<(), Full> {
        sink.put(b"{\"time\":\"")?;
        sink.put(&iso_time(self.unix_us))?;
        sink.put(b"\",\"client\":\"")?;
        put_ip(self.client, sink)?;
        for (name, value, max) in [
            (&b"\",\"method\":\""[..], self.method, METHOD_BYTES_MAX),
            (b"\",\"host\":\"", self.host, HOST_BYTES_MAX),
            (b"\",\"target\":\"", self.target, TARGET_BYTES_MAX),
            (b"\",\"version\":\"", self.version.as_bytes(), 8),
            (b"\",\"referer\":\"", self.referer, REFERER_BYTES_MAX),
            (b"\",\"user_agent\":\"", self.user_agent, USER_AGENT_BYTES_MAX),
            (b"\",\"cache\":\"", self.cache, CACHE_BYTES_MAX),
        ] {
            sink.put(name)?;
            put_json(value, max, sink)?;
        }
        sink.put(b"\",\"status\":")?;
        put_number(u64::from(self.status), sink)?;
        sink.put(b",\"body_bytes\":")?;
        put_number(self.body_bytes, sink)?;
        match self.origin {
            None => sink.put(b",\"origin\":null")?,
            Some(origin) => {
                sink.put(b",\"origin\":\"")?;
                put_socket_address(origin, sink)?;
                sink.put(b"\"")?;
            }
        }
        for (name, us) in self.durations(&[
            b",\"wait_us\":",
            b",\"connect_us\":",
            b",\"origin_first_byte_us\":",
            b",\"first_byte_us\":",
            b",\"last_byte_us\":",
        ]) {
            sink.put(name)?;
            match us {
                None => sink.put(b"null")?,
                Some(us) => put_number(u64::from(us), sink)?,
            }
        }
        sink.put(b",\"id\":\"")?;
        sink.put(&hex16(self.request_id))?;
        sink.put(b"\"}\n")
    }

    fn durations<'n>(&self, names: &[&'n [u8]; 5]) -> [(&'n [u8], Option<u32>); 5] {
        let t = &self.timings;
        [
            (names[0], t.wait_us()),
            (names[1], t.connect_us()),
            (names[2], t.origin_first_byte_us()),
            (names[3], t.first_byte_us()),
            (names[4], t.last_byte_us()),
        ]
    }
}

fn put_number(n: u64, sink: &mut (impl HeadSink + ?Sized)) -> Result<(), Full> {
    sink.put(format_decimal(n, &mut [0; 20]))
}

fn put_socket_address(address: SocketAddr, sink: &mut (impl HeadSink + ?Sized)) -> Result<(), Full> {
    if address.is_ipv6() {
        sink.put(b"[")?;
    }
    put_ip(address.ip(), sink)?;
    sink.put(if address.is_ipv6() { b"]:" } else { b":" })?;
    put_number(u64::from(address.port()), sink)
}

fn hex16(n: u64) -> [u8; 16] {
    core::array::from_fn(|at| HEX[(n >> (60 - 4 * at)) as usize & 15])
}

/// `1994-11-06T08:49:37.000000Z`.
fn iso_time(unix_us: u64) -> [u8; 27] {
    let (unix_s, mut us) = (unix_us / 1_000_000, unix_us % 1_000_000);
    let date = http_date::format(unix_s);
    let mut out = *b"0000-00-00T00:00:00.000000Z";
    out[..4].copy_from_slice(&date[12..16]);
    let month = http_date::month(&date, 8).unwrap_or(0) as u8;
    out[5] = b'0' + month / 10;
    out[6] = b'0' + month % 10;
    out[8..10].copy_from_slice(&date[5..7]);
    out[11..19].copy_from_slice(&date[17..25]);
    for digit in out[20..26].iter_mut().rev() {
        *digit = b'0' + (us % 10) as u8;
        us /= 10;
    }
    out
}

/// What must hold for any bytes in the fields: for the fuzz target and the property test.
#[cfg(any(test, feature = "harness"))]
#[doc(hidden)]
pub fn check(input: &[u8]) {
    let part = |n: usize| input.get(input.len() * n / 6..input.len() * (n + 1) / 6).unwrap_or_default();
    let record = LogRecord {
        unix_us: u64::MAX,
        client: IpAddr::from([0xff; 16]),
        method: part(0),
        target: part(1),
        host: part(2),
        version: Version::Http10,
        status: u16::MAX,
        body_bytes: u64::MAX,
        cache: part(3),
        origin: Some(SocketAddr::from(([0xff; 16], u16::MAX))),
        timings: {
            let mut timings = Timings::start(0);
            for mark in super::timings::Mark::ALL {
                timings.mark(mark, if mark == super::timings::Mark::Start { 0 } else { u64::MAX });
            }
            timings
        },
        user_agent: part(4),
        referer: part(5),
        request_id: u64::MAX,
    };
    let line = |format| {
        let mut room = [0; LINE_BYTES_MAX];
        let mut sink = crate::http1::SliceSink::new(&mut room);
        record.write(format, &mut sink).expect("every line fits");
        let text = core::str::from_utf8(sink.written()).expect("UTF-8").to_owned();
        assert!(
            text.ends_with('\n') && !text[..text.len() - 1].contains(|c: char| c.is_ascii_control()),
            "{text:?}"
        );
        text
    };
    // Quotes pair up: four quoted fields, and blanks split what is outside of them into as many words as ever.
    let text = line(LogFormat::Text);
    let (mut quotes, mut words, mut is_escaped) = (0, 1, false);
    for b in text.bytes() {
        match b {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => quotes += 1,
            b' ' if quotes % 2 == 0 => words += 1,
            b => assert!(b.is_ascii()),
        }
    }
    assert_eq!((quotes, words), (8, 19), "{text}");
    let json = line(LogFormat::Json);
    assert_eq!(json.matches("\",\"host\":\"").count(), 1, "a quote came through: {json}");
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::timings::Mark;
    use super::*;
    use crate::http1::SliceSink;

    fn record() -> LogRecord<'static> {
        let mut timings = Timings::start(0);
        for (mark, us) in [
            (Mark::ConnectStart, 3),
            (Mark::Connected, 213),
            (Mark::RequestSent, 220),
            (Mark::OriginFirstByte, 2_060),
            (Mark::FirstByte, 2_101),
            (Mark::LastByte, 2_550),
        ] {
            timings.mark(mark, us * 1_000);
        }
        LogRecord {
            unix_us: 784_111_777_000_042,
            client: IpAddr::from([192, 0, 2, 1]),
            method: b"GET",
            target: b"/a?b",
            host: b"a.example",
            version: Version::Http11,
            status: 200,
            body_bytes: 1024,
            cache: b"MISS",
            origin: Some(SocketAddr::from(([198, 51, 100, 1], 80))),
            timings,
            user_agent: b"curl/8",
            referer: b"",
            request_id: 255,
        }
    }

    fn line(record: &LogRecord<'_>, format: LogFormat) -> String {
        let mut room = [0; LINE_BYTES_MAX];
        let mut sink = SliceSink::new(&mut room);
        record.write(format, &mut sink).expect("it fits");
        String::from_utf8(sink.written().to_vec()).expect("text")
    }

    #[test]
    fn a_line_of_text() {
        assert_eq!(
            line(&record(), LogFormat::Text),
            "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b HTTP/1.1\" 200 1024 \"-\" \"curl/8\" \
             \"a.example\" MISS 198.51.100.1:80 wait=3 connect=210 origin=1840 first=2101 last=2550 \
             id=00000000000000ff\n"
        );
        let hit = LogRecord { origin: None, cache: b"", timings: Timings::start(0), ..record() };
        let text = line(&hit, LogFormat::Text);
        assert!(text.contains("\"a.example\" - - wait=- connect=- origin=- first=- last=- id="), "{text}");
    }

    #[test]
    fn a_line_of_json() {
        assert_eq!(
            line(&record(), LogFormat::Json),
            "{\"time\":\"1994-11-06T08:49:37.000042Z\",\"client\":\"192.0.2.1\",\"method\":\"GET\",\
             \"host\":\"a.example\",\"target\":\"/a?b\",\"version\":\"HTTP/1.1\",\"referer\":\"\",\
             \"user_agent\":\"curl/8\",\"cache\":\"MISS\",\"status\":200,\"body_bytes\":1024,\
             \"origin\":\"198.51.100.1:80\",\"wait_us\":3,\"connect_us\":210,\"origin_first_byte_us\":1840,\
             \"first_byte_us\":2101,\"last_byte_us\":2550,\"id\":\"00000000000000ff\"}\n"
        );
    }

    #[test]
    fn what_clients_send_stays_in_its_field() {
        let nasty = LogRecord { user_agent: b"a\"b\\c\n\x7f\xe4\xc3\xa4 d", ..record() };
        let text = line(&nasty, LogFormat::Text);
        assert!(text.contains(r#" "a\"b\\c\x0a\x7f\xe4\xc3\xa4 d" "#), "{text}");
        let json: serde_json::Value = serde_json::from_str(&line(&nasty, LogFormat::Json)).expect("JSON");
        assert_eq!(json["user_agent"], "a\"b\\c\n\u{7f}\u{fffd}\u{e4} d");
    }

    #[test]
    fn long_fields_are_cut_between_characters_and_escapes() {
        for length in 1000..1040 {
            for bytes in [&b"\""[..], b"x", b"\xc3\xa4", b"\x01", b"\xff"] {
                let target: Vec<u8> = bytes.iter().copied().cycle().take(length).collect();
                let long = LogRecord { target: &target, ..record() };
                let json: serde_json::Value =
                    serde_json::from_str(&line(&long, LogFormat::Json)).expect("JSON");
                let got = json["target"].as_str().expect("a string");
                let whole = String::from_utf8_lossy(&target);
                assert!(got == whole || whole.starts_with(got.strip_suffix("...").expect("cut")));
                let text = line(&long, LogFormat::Text);
                assert!(text.len() < 1024 + 300 && text.ends_with("id=00000000000000ff\n"));
            }
        }
    }

    proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes(input in vec(any::<u8>(), 0..300), times in 1..30usize) {
            let input: Vec<u8> = input.repeat(times);
            check(&input);
            let part = &input[..input.len() / 3];
            let record = LogRecord { method: part, target: &input, host: part, user_agent: part, ..record() };
            prop_assert!(serde_json::from_str::<serde_json::Value>(&line(&record, LogFormat::Json)).is_ok());
        }
    }
}
