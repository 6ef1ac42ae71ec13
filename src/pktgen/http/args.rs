//! The command line of `millrace pktgen http`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use l7::tls::origin::Trust;

use super::super::args::{PortArgs, duration_ns};
use super::arrivals::Kind;
use super::mix::{self, Common};
use super::plan::{CONNECTIONS_MAX, PIPELINE_MAX, Plan};
use super::request::{self, BODY_MAX, Parts, Request};
use super::sources::Sources;
use super::tls::{Group, Mode, Secured, groups};
use super::url::Url;
use crate::roots;

const DURATION_BY_DEFAULT_NS: u64 = 10_000_000_000;
/// What the queue of arrivals that wait for a connection holds at least, and at most.
const WAITING: std::ops::RangeInclusive<f64> = 4096.0..=4_000_000.0;
/// Ranges of sources: as many as a port has places for.
const SOURCES_MAX: usize = stack::net::RANGES_MAX;

/// `millrace pktgen http`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    millrace pktgen http http://10.9.0.1/ --port tap:pk0 --address 10.9.0.2/24 -c 100 -d 10s\n      \
    closed loop, as wrk: each of 100 connections asks again as soon as it is answered\n  \
    millrace pktgen http http://10.9.0.1/ --port tap:pk0 --address 10.9.0.2/24 -c 100 --rate 10k --arrival poisson\n      \
    open loop, as wrk2: 10,000 requests a second, whatever the server does; latency from when each was due\n  \
    millrace pktgen http http://10.9.0.1/1k --port tap:pk0 --address 10.9.0.2/24 --close --sources 10.9.1.0/24\n      \
    a connection for each request, from many addresses\n  \
    millrace pktgen http http://10.9.0.1/ --port tap:pk0 --address 10.9.0.2/24 --mix mix.toml --verify -n 100000 --json\n  \
    millrace pktgen http https://10.9.0.1/ --port tap:pk0 --address 10.9.0.2/24 --host a.example --ca ca.pem --close --tls resumed\n      \
    a connection for each request, by TLS; all handshakes but the first go on from an earlier one\n\n\
    A mix is a TOML file:  [[request]]  path = \"/a\"  weight = 9  method = \"GET\"  headers = [\"Accept: */*\"]  body = \"\"\n  \
    status = 200  sha256 = \"…\"     (all but path may be left out)\n\n\
    Exit codes: 0 done, 1 nothing was answered, or wrongly, 2 usage. More in docs/pktgen-http.md.")]
pub struct HttpArgs {
    /// What to ask for: http://ADDRESS/PATH, or http://ADDRESS:PORT/PATH, or https://. Several, of one server, share the
    /// requests evenly.
    #[arg(value_name = "URL", required = true)]
    pub urls: Vec<Url>,
    /// By which port, and who we are.
    #[command(flatten)]
    pub on: PortArgs,
    /// Connections.
    #[arg(short = 'c', long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=i64::from(CONNECTIONS_MAX)))]
    pub connections: u32,
    /// How long requests are sent; without it and -n, 10 seconds.
    #[arg(short = 'd', long, value_name = "TIME", value_parser = duration_ns)]
    pub duration: Option<u64>,
    /// How many requests to send; all their answers are waited for.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,
    /// Requests a second, sent when they are due (open loop): 500, 10k, 1.5m. Without it each connection asks when it is
    /// answered (closed loop).
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub rate: Option<f64>,
    /// How they arrive: constant, or poisson.
    #[arg(long, value_name = "KIND", requires = "rate", default_value = "constant", value_parser = arrival)]
    pub arrival: Kind,
    /// Requests under way on one connection at a time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(PIPELINE_MAX)))]
    pub pipeline: u16,
    /// A connection for each request, instead of kept ones.
    #[arg(long, conflicts_with = "pipeline")]
    pub close: bool,
    /// A line of the requests' heads, as in "Accept: text/html"; may be given often.
    #[arg(short = 'H', long = "header", value_name = "LINE")]
    pub headers: Vec<String>,
    /// What Host says, and which name TLS asks for and checks; the URL's address without it.
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// How TLS connections begin: full (each by a full handshake), or resumed (by tickets of earlier ones, from the first
    /// on that there is one for).
    #[arg(long, value_name = "HOW", default_value = "full", value_parser = mode)]
    pub tls: Mode,
    /// The only group of key exchanges that is offered: x25519mlkem768, x25519, secp256r1, secp384r1; without it all, the
    /// first of them preferred.
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub group: Option<Group>,
    /// Whose certificates are believed: a PEM file of roots, or of the server's own certificate; without it, the system's.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,
    /// Believe any certificate.
    #[arg(long)]
    pub insecure: bool,
    /// The method.
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub method: String,
    /// The requests' body: TEXT, or @FILE.
    #[arg(long, value_name = "TEXT")]
    pub body: Option<String>,
    /// What to ask for, from a file, with weights and expectations; instead of the URL's path.
    #[arg(long, value_name = "FILE")]
    pub mix: Option<PathBuf>,
    /// The addresses that connections come from: CIDR, A-B or one; ARP and ND for them are answered.
    #[arg(long, value_name = "ADDRESSES")]
    pub sources: Vec<Sources>,
    /// The SHA-256 that every body must have.
    #[arg(long, value_name = "HEX", value_parser = request::sha256, conflicts_with = "mix")]
    pub sha256: Option<[u8; 32]>,
    /// All bodies of a request must be equal to the first one.
    #[arg(long)]
    pub verify: bool,
    /// How long requests go before they are measured.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration_ns)]
    pub warmup: u64,
    /// Connections that are opened in a second at most.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub ramp: Option<f64>,
    /// How long a connection may take to open, and a request to be answered.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration_ns)]
    pub timeout: u64,
    /// How long late answers are waited for at the end.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration_ns)]
    pub linger: u64,
    /// Everything random follows from this.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The report as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Write the latencies to a file, as HdrHistogram's percentile distribution.
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
}

impl HttpArgs {
    /// What it asks for.
    ///
    /// # Errors
    /// What is wrong, with the mend.
    pub fn plan(&self) -> Result<Plan, String> {
        let first = self.urls.first().ok_or("no URL; write one, as in http://10.0.0.1/")?;
        if self.urls.iter().any(|u| u.is_https != first.is_https) {
            return Err("some URLs are http:// and some https://; a run asks by one of them".to_owned());
        }
        if let Some(other) = self.urls.iter().find(|u| u.server != first.server) {
            return Err(format!(
                "{} and {} are two servers; a run asks one, several are several runs",
                first.server, other.server
            ));
        }
        if self.sources.len() > SOURCES_MAX {
            return Err(format!("{} ranges of sources are too many; {SOURCES_MAX} fit", self.sources.len()));
        }
        if let Some(s) = self.sources.iter().find(|s| s.first.is_ipv4() != first.server.is_ipv4()) {
            return Err(format!(
                "the sources from {} cannot reach {}; keep to one family",
                s.first, first.server
            ));
        }
        if self.timeout == 0 {
            return Err("a timeout of nothing answers nothing; write --timeout 10s".to_owned());
        }
        let endless = self.duration.is_none() && self.requests.is_none();
        Ok(Plan {
            server: first.server,
            requests: self.all_requests(first)?,
            connections: self.connections,
            pipeline: self.pipeline,
            close: self.close,
            rate: self.rate,
            arrival: self.arrival,
            // What arrives in ten seconds.
            waiting_max: self.rate.map_or(1, |r| (r * 10.0).clamp(*WAITING.start(), *WAITING.end()) as u32),
            duration_ns: if endless { Some(DURATION_BY_DEFAULT_NS) } else { self.duration },
            count: self.requests,
            warmup_ns: self.warmup,
            linger_ns: self.linger,
            timeout_ns: self.timeout,
            ramp: self.ramp,
            sources: self.sources.clone(),
            verify: self.verify,
            seed: self.seed,
            epoch_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64),
            tls: self.secured(first)?,
        })
    }

    fn secured(&self, url: &Url) -> Result<Option<Secured>, String> {
        if !url.is_https {
            let word = match (&self.ca, self.insecure, self.tls) {
                (Some(_), ..) => "--ca",
                (_, true, _) => "--insecure",
                (.., Mode::Resumed) => "--tls",
                _ if self.group.is_some() => "--group",
                _ => return Ok(None),
            };
            return Err(format!("{word} is for https:// only; write https://{}/", url.authority));
        }
        let trust = match &self.ca {
            _ if self.insecure => Trust::Anybody,
            Some(file) => Trust::Roots(Arc::new(roots::of_file(file)?)),
            None => {
                let roots = roots::of_system();
                let roots =
                    roots.map_err(|e| format!("{e}; install ca-certificates, or name a file with --ca"))?;
                Trust::Roots(Arc::new(roots))
            }
        };
        let name = match &self.host {
            // Without a port, if it has one.
            Some(host) => host.split_once(':').map_or(&**host, |(name, _)| name).to_owned(),
            None => url.server.ip().to_string(),
        };
        Secured::new(&name, trust, self.tls, self.connections, self.group)
            .map(Some)
            .map_err(|e| e.to_string())
    }

    fn all_requests(&self, first: &Url) -> Result<Vec<Request>, String> {
        let host = self.host.as_deref().unwrap_or(&first.authority);
        if !host.bytes().all(|b| b.is_ascii_graphic()) || host.is_empty() {
            return Err(format!("\"{host}\" is no name of a host; write --host example.com"));
        }
        if let Some(file) = &self.mix {
            if self.urls.len() > 1 || first.path != "/" || self.body.is_some() {
                return Err(
                    "a mix says what is asked for; write one URL without a path, and no --body".to_owned()
                );
            }
            let common = Common { method: &self.method, headers: &self.headers, host, close: self.close };
            return mix::load(file, &common).map_err(|report| report.to_string());
        }
        let body = match self.body.as_deref() {
            None => Vec::new(),
            Some(text) => match text.strip_prefix('@') {
                None => text.as_bytes().to_vec(),
                Some(file) => read(file)?,
            },
        };
        let one = |u: &Url| {
            let parts = Parts {
                method: &self.method,
                path: &u.path,
                headers: &self.headers,
                body: &body,
                host,
                close: self.close,
            };
            parts.build().map(|r| Request { sha256: self.sha256, ..r })
        };
        self.urls.iter().map(one).collect()
    }
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut all = Vec::new();
    std::fs::File::open(file)
        .and_then(|f| f.take(BODY_MAX as u64 + 1).read_to_end(&mut all))
        .map_err(|e| format!("cannot read {file}: {e}; name a file after --body @"))?;
    Ok(all)
}

/// A number with k or m.
fn rate(text: &str) -> Result<f64, String> {
    let wrong = || format!("\"{text}\" is no rate; write a number, as in 500, 10k or 1.5m");
    let lower = text.to_ascii_lowercase();
    let (number, scale) = match lower.strip_suffix('k') {
        Some(n) => (n, 1e3),
        None => lower.strip_suffix('m').map_or((&*lower, 1.0), |n| (n, 1e6)),
    };
    if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(wrong());
    }
    number.parse::<f64>().ok().map(|n| n * scale).filter(|n| (0.001..=1e8).contains(n)).ok_or_else(wrong)
}

fn mode(text: &str) -> Result<Mode, String> {
    [Mode::Full, Mode::Resumed]
        .into_iter()
        .find(|m| m.name() == text)
        .ok_or_else(|| format!("\"{text}\" is no way to shake hands; write full or resumed"))
}

fn group(text: &str) -> Result<Group, String> {
    let found = groups().find(|(name, _)| *name == text.to_ascii_lowercase());
    found.map(|(_, group)| group).ok_or_else(|| {
        let names: Vec<String> = groups().map(|(name, _)| name).collect();
        format!("\"{text}\" is no group; write one of {}", names.join(", "))
    })
}

fn arrival(text: &str) -> Result<Kind, String> {
    match text {
        "constant" => Ok(Kind::Constant),
        "poisson" => Ok(Kind::Poisson),
        _ => Err(format!("\"{text}\" is no way to arrive; write constant or poisson")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        http: HttpArgs,
    }

    fn plan(words: &str) -> Result<Plan, String> {
        let words = words.split_whitespace();
        let all = ["x", "--port", "tap:x", "--address", "10.0.0.2/24"].into_iter().chain(words);
        Line::try_parse_from(all).map_err(|e| e.to_string())?.http.plan()
    }

    #[test]
    fn the_words_of_other_load_tools() {
        let p = plan(
            "http://10.0.0.1/a http://10.0.0.1/b -c 10 -d 5s --rate 1.5k --arrival poisson -H A:b --close",
        )
        .expect("good");
        assert_eq!(
            (p.connections, p.duration_ns, p.rate, p.close),
            (10, Some(5_000_000_000), Some(1500.0), true)
        );
        assert_eq!((p.arrival, p.requests.len(), p.waiting_max), (Kind::Poisson, 2, 15_000));
        assert!(p.requests[1].bytes.ends_with(b"A: b\r\nConnection: close\r\n\r\n"));
        let p = plan("http://10.0.0.1/ -n 7 --host example.com").expect("good");
        assert_eq!((p.duration_ns, p.count, p.rate), (None, Some(7), None));
        assert_eq!(p.requests[0].bytes, b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
        assert_eq!(plan("http://10.0.0.1/").expect("good").duration_ns, Some(DURATION_BY_DEFAULT_NS));
    }

    #[test]
    fn what_tls_begins_with() {
        let tls = |words: &str| plan(words).expect("good").tls.expect("TLS");
        let t = tls("https://10.0.0.1/ --insecure");
        assert_eq!((t.mode, &*t.name.to_str()), (Mode::Full, "10.0.0.1"));
        let t = tls("https://[fd00::1]/ --insecure --tls resumed");
        assert_eq!((t.mode, &*t.name.to_str()), (Mode::Resumed, "fd00::1"));
        assert_eq!(tls("https://10.0.0.1/ --insecure --host a.example:443").name.to_str(), "a.example");
        assert!(plan("http://10.0.0.1/").expect("good").tls.is_none());
        let of =
            |t: &Secured| t.config.crypto_provider().kx_groups.iter().map(|g| g.name()).collect::<Vec<_>>();
        assert_eq!(of(&t).len(), groups().count());
        let t = tls("https://10.0.0.1/ --insecure --group X25519");
        assert_eq!(of(&t), [rustls::NamedGroup::X25519]);
    }

    #[test]
    fn the_page_has_every_option() {
        let page = include_str!("../../../docs/pktgen-http.md");
        for a in <Line as clap::CommandFactory>::command().get_arguments() {
            let Some(long) = a.get_long() else { continue };
            assert!(page.contains(&format!("`--{long}")), "--{long} is not in docs/pktgen-http.md");
        }
    }

    #[test]
    fn what_is_wrong_says_the_mend() {
        for (words, says) in [
            ("http://10.0.0.1/ https://10.0.0.1:80/", "by one of them"),
            ("http://10.0.0.1/ --tls resumed", "--tls is for https:// only; write https://10.0.0.1/"),
            ("http://10.0.0.1/ --insecure", "https:// only"),
            ("https://10.0.0.1/ --tls half", "full or resumed"),
            ("https://10.0.0.1/ --group 25519", "one of x25519"),
            ("http://10.0.0.1/ --group x25519", "--group is for https:// only"),
            ("https://10.0.0.1/ --insecure --ca x", "cannot be used with"),
            ("https://10.0.0.1/ --ca /nowhere/ca.pem", "cannot read /nowhere/ca.pem"),
            ("https://10.0.0.1/ --ca Cargo.toml", "has no certificate"),
            ("https://10.0.0.1/ --insecure --host a_b..c", "no name that a certificate can have"),
            ("http://example.com/", "--host NAME"),
            ("http://10.0.0.1/ http://10.0.0.2/", "two servers"),
            ("http://10.0.0.1/ --rate 10pps", "as in 500"),
            ("http://10.0.0.1/ --rate 0", "as in 500"),
            ("http://10.0.0.1/ --arrival poisson", "--rate"),
            ("http://10.0.0.1/ --rate 5 --arrival random", "constant or poisson"),
            ("http://10.0.0.1/ -c 0", "1..=1000000"),
            ("http://10.0.0.1/ -c 1000001", "1..=1000000"),
            ("http://10.0.0.1/ --close --pipeline 2", "cannot be used with"),
            ("http://10.0.0.1/ -H nonsense", "is no header"),
            ("http://10.0.0.1/ --sources fd00::/64", "one family"),
            ("http://10.0.0.1/ --sha256 12", "64 hexadecimal digits"),
            ("http://10.0.0.1/x --mix m.toml", "without a path"),
            ("http://10.0.0.1/ --mix /nowhere/m.toml", "there is no such file"),
            ("http://10.0.0.1/ --body @/nowhere", "name a file"),
            ("http://10.0.0.1/ --method CONNECT", "tunnel"),
            ("http://10.0.0.1/ --duration 5", "a unit"),
        ] {
            let e = plan(words).expect_err(words);
            assert!(e.contains(says), "{words}: {e}");
        }
    }
}
