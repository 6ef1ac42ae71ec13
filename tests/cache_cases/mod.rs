//! What RFC 9111 and its companions want of a shared cache, as conversations: client, cache and origin, with the time
//! between. Two runners hold them against the real node: `tests/cache` in memory under a virtual clock, and
//! `tests/e2e/conformance.rs` over `tap` with the kernel's TCP.
//!
//! What is expected was written down from the text of the RFCs, section by section. In all texts `{now}`, `{now-60}` and
//! `{now+60}` stand for dates relative to the moment when the text is sent, and `{url}` for the path of the case.

#![allow(dead_code)] // Each of the two runners uses its part of it.

mod conditions;
mod directives;
mod failing;
mod families;
mod freshness;
mod operator;
mod ranges;
mod storing;
mod updating;
mod varying;

/// What the origin does about a request.
#[derive(Clone, Debug)]
pub enum Answer {
    Reply(Reply),
    /// Ends the connection without a word.
    Close,
    /// Says nothing.
    Silence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length,
    Chunked,
    /// In chunks, and `X-Sum: 42` after them.
    Trailers,
    /// As long as the connection.
    UntilClose,
    /// A length, and the connection ends this many bytes before that.
    Cut(usize),
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub fields: Vec<String>,
    pub body: Vec<u8>,
    pub framing: Framing,
    /// Whether `Date` is added.
    pub date: bool,
    /// Interim responses that come before it.
    pub interim: Vec<String>,
}

/// A response with this status; its body is `a`.
pub fn status(status: u16) -> Reply {
    Reply {
        status,
        fields: Vec::new(),
        body: b"a".to_vec(),
        framing: Framing::Length,
        date: true,
        interim: Vec::new(),
    }
}

/// 200 with this Cache-Control, if that is not empty.
pub fn ok(cache_control: &str) -> Reply {
    status(200).cc(cache_control)
}

/// 304.
pub fn not_modified(cache_control: &str) -> Reply {
    status(304).cc(cache_control).body("")
}

impl Reply {
    pub fn cc(self, value: &str) -> Reply {
        if value.is_empty() { self } else { self.field(&format!("Cache-Control: {value}")) }
    }

    pub fn field(mut self, line: &str) -> Reply {
        self.fields.push(line.to_owned());
        self
    }

    pub fn body(mut self, text: &str) -> Reply {
        self.body = text.as_bytes().to_vec();
        self
    }

    pub fn framing(mut self, framing: Framing) -> Reply {
        self.framing = framing;
        self
    }

    pub fn interim(mut self, head: &str) -> Reply {
        self.interim.push(head.to_owned());
        self
    }

    pub fn no_date(mut self) -> Reply {
        self.date = false;
        self
    }

    /// The bytes, and whether the connection ends after them.
    pub fn bytes(&self, is_head: bool, url: &str, unix_s: u64) -> (Vec<u8>, bool) {
        let mut text = String::new();
        for i in &self.interim {
            text.push_str(&format!("{i}\r\n\r\n"));
        }
        text.push_str(&format!("HTTP/1.1 {} Whatever\r\n", self.status));
        if self.date {
            text.push_str("Date: {now}\r\n");
        }
        for f in &self.fields {
            text.push_str(f);
            text.push_str("\r\n");
        }
        let bare = matches!(self.status, 204 | 304);
        match self.framing {
            _ if bare => {}
            Framing::Length | Framing::Cut(_) => {
                text.push_str(&format!("Content-Length: {}\r\n", self.body.len()))
            }
            Framing::Chunked | Framing::Trailers => text.push_str("Transfer-Encoding: chunked\r\n"),
            Framing::UntilClose => text.push_str("Connection: close\r\n"),
        }
        text.push_str("\r\n");
        let mut bytes = expand(&text, url, unix_s).into_bytes();
        if !bare && !is_head {
            match self.framing {
                Framing::Chunked | Framing::Trailers => {
                    for piece in self.body.chunks(7) {
                        bytes.extend(format!("{:x}\r\n", piece.len()).bytes());
                        bytes.extend(piece);
                        bytes.extend(b"\r\n");
                    }
                    let trailers: &[u8] = if self.framing == Framing::Trailers {
                        b"0\r\nX-Sum: 42\r\n\r\n"
                    } else {
                        b"0\r\n\r\n"
                    };
                    bytes.extend(trailers);
                }
                Framing::Cut(n) => bytes.extend(&self.body[..self.body.len() - n]),
                _ => bytes.extend(&self.body),
            }
        }
        (bytes, matches!(self.framing, Framing::UntilClose | Framing::Cut(_)))
    }
}

/// A request, what the origin would do about it, and what has to come of it.
#[derive(Clone, Debug)]
pub struct Step {
    pub method: &'static str,
    /// After the case's path.
    pub suffix: String,
    pub fields: Vec<String>,
    /// Before it.
    pub wait_ms: u64,
    /// In turn; the last one again and again.
    pub answers: Vec<Answer>,
    pub want: Want,
}

#[derive(Clone, Debug, Default)]
pub struct Want {
    /// Requests that the origin sees.
    pub asked: Option<usize>,
    pub status: Option<u16>,
    /// A value that ends with `*` is the beginning of one; an empty one is any.
    pub has: Vec<(String, String)>,
    pub has_not: Vec<String>,
    pub age: Option<u64>,
    pub body: Option<Vec<u8>>,
    /// Somewhere in our member of Cache-Status.
    pub cache_status: Vec<String>,
    /// Of the last request that the origin saw; an empty value: whatever it is.
    pub origin_has: Vec<(String, String)>,
    pub origin_has_not: Vec<String>,
    /// The client must not take it for whole.
    pub broken: bool,
    /// What the body contains, where not all of it is known.
    pub contains: Vec<String>,
}

/// A request with this method.
pub fn ask(method: &'static str) -> Step {
    Step {
        method,
        suffix: String::new(),
        fields: Vec::new(),
        wait_ms: 0,
        answers: vec![Answer::Reply(ok("no-store").body("nobody was to ask"))],
        want: Want::default(),
    }
}

pub fn get() -> Step {
    ask("GET")
}

pub fn head() -> Step {
    ask("HEAD")
}

impl Step {
    pub fn at(mut self, suffix: &str) -> Step {
        self.suffix = suffix.to_owned();
        self
    }

    pub fn with(mut self, line: &str) -> Step {
        self.fields.push(line.to_owned());
        self
    }

    pub fn with_cc(self, value: &str) -> Step {
        if value.is_empty() { self } else { self.with(&format!("Cache-Control: {value}")) }
    }

    /// Seconds before it.
    pub fn after(mut self, seconds: f64) -> Step {
        self.wait_ms = (seconds * 1000.0) as u64;
        self
    }

    /// What the origin would answer; whether it is asked is said apart.
    pub fn if_asked(mut self, reply: Reply) -> Step {
        self.answers = vec![Answer::Reply(reply)];
        self
    }

    pub fn then(mut self, reply: Reply) -> Step {
        self.answers.push(Answer::Reply(reply));
        self
    }

    /// The origin does not answer.
    pub fn if_fails(mut self, how: Answer) -> Step {
        self.answers = vec![how];
        self
    }

    /// The origin is asked once, and its answer is what comes.
    pub fn origin(self, reply: Reply) -> Step {
        let (status, body) = (reply.status, reply.body.clone());
        let mut s = self.if_asked(reply).asked(1).status(status);
        let bare = s.method == "HEAD" || matches!(status, 204 | 304);
        s.want.body = Some(if bare { Vec::new() } else { body });
        s
    }

    /// The origin is not asked, and this body comes, whole, with 200.
    pub fn hit(self, body: &str) -> Step {
        let body = if self.method == "HEAD" { "" } else { body };
        self.asked(0).status(200).body(body)
    }

    pub fn asked(mut self, n: usize) -> Step {
        self.want.asked = Some(n);
        self
    }

    pub fn status(mut self, status: u16) -> Step {
        self.want.status = Some(status);
        self
    }

    pub fn body(mut self, text: &str) -> Step {
        self.want.body = Some(text.as_bytes().to_vec());
        self
    }

    pub fn contains(mut self, text: &str) -> Step {
        self.want.contains.push(text.to_owned());
        self
    }

    pub fn any_body(mut self) -> Step {
        self.want.body = None;
        self
    }

    pub fn age(mut self, seconds: u64) -> Step {
        self.want.age = Some(seconds);
        self
    }

    pub fn has(mut self, name: &str, value: &str) -> Step {
        self.want.has.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn has_not(mut self, name: &str) -> Step {
        self.want.has_not.push(name.to_owned());
        self
    }

    pub fn says(mut self, part: &str) -> Step {
        self.want.cache_status.push(part.to_owned());
        self
    }

    pub fn origin_has(mut self, name: &str, value: &str) -> Step {
        self.want.origin_has.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn origin_has_not(mut self, name: &str) -> Step {
        self.want.origin_has_not.push(name.to_owned());
        self
    }

    pub fn broken(mut self) -> Step {
        self.want.broken = true;
        self
    }

    /// The request's bytes.
    pub fn request(&self, host: &str, url: &str, unix_s: u64) -> Vec<u8> {
        let mut text = format!("{} {url}{} HTTP/1.1\r\nHost: {host}\r\n", self.method, self.suffix);
        for f in &self.fields {
            text.push_str(f);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        expand(&text, url, unix_s).into_bytes()
    }
}

/// A conversation.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    /// `9111 4.2.1`, of the RFC that wants it so.
    pub section: &'static str,
    /// The site's name, before `.lab`: one of [`SITES`].
    pub site: &'static str,
    pub steps: Vec<Step>,
}

impl Case {
    /// Whether a wall clock may run it.
    pub fn is_quick(&self) -> bool {
        let silent = |s: &Step| s.answers.iter().any(|a| matches!(a, Answer::Silence));
        self.steps.iter().map(|s| s.wait_ms).sum::<u64>() <= 2000 && !self.steps.iter().any(silent)
    }
}

/// What came of a step, as its runner saw it.
#[derive(Debug, Default)]
pub struct Got {
    pub status: u16,
    /// All of the final response's head.
    pub head: String,
    pub body: Vec<u8>,
    /// Its framing says that it is all there.
    pub whole: bool,
    /// Heads of the requests that the origin saw.
    pub asked: Vec<String>,
}

/// The value of a field in a head; several lines are joined.
pub fn field<'a>(head: &'a str, name: &str) -> Option<String> {
    let value = |l: &'a str| {
        let (n, v) = l.split_once(':')?;
        n.eq_ignore_ascii_case(name).then(|| v.trim().to_owned())
    };
    let all: Vec<String> = head.lines().skip(1).filter_map(value).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// What is wrong with it; nothing, if all is well. `slack_s`: how far a wall clock may have moved on.
pub fn faults(step: &Step, got: &Got, url: &str, unix_s: u64, slack_s: u64) -> Vec<String> {
    let w = &step.want;
    let mut bad = Vec::new();
    if w.broken == got.whole {
        bad.push(format!("the response is {}", if got.whole { "whole" } else { "broken" }));
    }
    if w.asked.is_some_and(|n| n != got.asked.len()) {
        bad.push(format!("the origin was asked {} times, not {}", got.asked.len(), w.asked.unwrap_or(0)));
    }
    if w.status.is_some_and(|s| s != got.status) {
        bad.push(format!("status {}, not {}", got.status, w.status.unwrap_or(0)));
    }
    for (name, value) in &w.has {
        let value = expand(value, url, unix_s);
        match field(&got.head, name) {
            Some(v) if value.is_empty() || v == value => {}
            Some(v) if value.strip_suffix('*').is_some_and(|begin| v.starts_with(begin)) => {}
            v => bad.push(format!("{name} is {v:?}, not {value:?}")),
        }
    }
    for name in &w.has_not {
        if let Some(v) = field(&got.head, name) {
            bad.push(format!("{name} is there: {v}"));
        }
    }
    if let Some(want) = w.age {
        let age = field(&got.head, "age").and_then(|a| a.parse::<u64>().ok());
        if !age.is_some_and(|a| (want..=want + slack_s).contains(&a)) {
            bad.push(format!("Age is {age:?}, not {want}"));
        }
    }
    if let Some(body) = &w.body
        && *body != got.body
    {
        bad.push(format!("the body is {:?}, not {:?}", text(&got.body), text(body)));
    }
    for part in &w.contains {
        if !String::from_utf8_lossy(&got.body).contains(part) {
            bad.push(format!("{part:?} is not in the body {:?}", text(&got.body)));
        }
    }
    let said = field(&got.head, "cache-status").unwrap_or_default();
    let ours = said.rsplit("millrace").next().filter(|_| said.contains("millrace")).unwrap_or_default();
    for part in &w.cache_status {
        if !ours.split(';').any(|p| p.trim() == part || p.trim().starts_with(part)) {
            bad.push(format!("Cache-Status is {said:?}, without {part:?}"));
        }
    }
    let asked = got.asked.last().map_or("", String::as_str);
    for (name, value) in &w.origin_has {
        let value = expand(value, url, unix_s);
        match field(asked, name) {
            Some(v) if value.is_empty() || v == value => {}
            v => bad.push(format!("the origin saw {name} {v:?}, not {value:?}")),
        }
    }
    for name in &w.origin_has_not {
        if let Some(v) = field(asked, name) {
            bad.push(format!("the origin saw {name}: {v}"));
        }
    }
    bad
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

/// Fills in dates and the case's path.
pub fn expand(text: &str, url: &str, unix_s: u64) -> String {
    let text = text.replace("{url}", url);
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("{now") {
        out.push_str(&rest[..at]);
        let end = at + rest[at..].find('}').expect("a closed brace");
        let offset: i64 = match &rest[at + 4..end] {
            "" => 0,
            n => n.parse().expect("a number of seconds"),
        };
        out.push_str(&date(unix_s.saturating_add_signed(offset)));
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

fn date(unix_s: u64) -> String {
    String::from_utf8(l7::http1::http_date::format(unix_s).to_vec()).expect("ASCII")
}

/// The sites, and how each is configured.
pub const SITES: &[(&str, &str)] = &[
    ("book", "{}"),
    ("grace", "{ stale_while_revalidate = \"30s\", stale_if_error = \"60s\" }"),
    ("deaf", "{ obey_request = false }"),
    ("guess", "{ default_ttl = \"20s\", negative_ttl = { 404 = \"10s\", 503 = \"5s\" } }"),
    ("bounds", "{ min_ttl = \"10s\", max_ttl = \"100s\" }"),
    ("sober", "{ heuristic = false, status = false }"),
    ("ids", "{ key = { query = [\"id\"], cookies = [\"lang\"], headers = [\"X-Kind\"] } }"),
    ("bare", "{ key = { query = \"none\" } }"),
    ("small", "{ object_max = \"1KiB\" }"),
    ("slices", "{ slice = \"16KiB\" }"),
    ("slices-small", "{ slice = \"16KiB\", object_max = \"64KiB\" }"),
    ("rare", "{ admit_after = 3 }"),
    ("rare-slices", "{ slice = \"16KiB\", admit_after = 2 }"),
];

/// All cases; each has a name of its own.
pub fn all() -> Vec<Case> {
    let mut t = Table::default();
    freshness::cases(&mut t);
    storing::cases(&mut t);
    directives::cases(&mut t);
    varying::cases(&mut t);
    conditions::cases(&mut t);
    updating::cases(&mut t);
    ranges::cases(&mut t);
    failing::cases(&mut t);
    operator::cases(&mut t);
    t.0
}

#[derive(Default)]
pub struct Table(Vec<Case>);

impl Table {
    pub fn add<const N: usize>(&mut self, section: &'static str, name: impl Into<String>, steps: [Step; N]) {
        self.on("book", section, name, steps);
    }

    pub fn on<const N: usize>(
        &mut self,
        site: &'static str,
        section: &'static str,
        name: impl Into<String>,
        steps: [Step; N],
    ) {
        let name = name.into();
        assert!(self.0.iter().all(|c| c.name != name), "two cases are called {name}");
        assert!(SITES.iter().any(|(s, _)| *s == site), "no site {site}");
        self.0.push(Case { name, section, site, steps: steps.into() });
    }
}
