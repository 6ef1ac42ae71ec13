//! What a run of the load client has to say: for a person and for a program.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use dataplane::Ctr;
use dataplane::counters::{Snapshot, highest_of};
use serde_json::{Map, Value, json};

use super::super::rate::human;
use super::super::report::QUANTILES;
use super::arrivals::Kind;
use super::plan::Plan;
use super::tally::{Count, End, Shared, Tally};

/// What is known of the core that ran it.
pub struct Run {
    /// The port.
    pub port: String,
    /// Bytes that were reserved.
    pub memory_bytes: u64,
    /// CPU time of its thread.
    pub cpu_ns: u64,
    /// Cycles in a second.
    pub hz: u64,
}

/// A run that is over.
pub struct Report<'a> {
    /// What it was to do.
    pub plan: &'a Plan,
    /// How it ended.
    pub end: &'a End,
    /// What was counted.
    pub tally: &'a Tally,
    /// The core's counters.
    pub counters: &'a Snapshot,
    /// The core.
    pub run: &'a Run,
}

const STATUSES: [Count; 5] = [Count::Interim, Count::Status2, Count::Status3, Count::Status4, Count::Status5];
/// What only had to wait, or was repeated.
const DELAYS: [Count; 3] = [Count::Resent, Count::NoPort, Count::NoFlow];

impl Report<'_> {
    fn seconds(&self) -> f64 {
        self.end.measured_ns as f64 / 1e9
    }

    fn rate(&self) -> f64 {
        self.tally.get(Count::Responses) as f64 / self.seconds()
    }

    fn busy_seconds(&self) -> f64 {
        self.counters.get(Ctr::LoopBusy) as f64 / self.run.hz as f64
    }

    /// Of all cycles between start and end, those of passes that found something to do.
    fn busy_share(&self) -> f64 {
        let (busy, idle) = (self.counters.get(Ctr::LoopBusy) as f64, self.counters.get(Ctr::LoopIdle) as f64);
        busy / (busy + idle).max(1.0)
    }

    /// TLS handshakes a second, from the beginning of the first to the end of the last.
    fn handshake_rate(&self) -> f64 {
        let t = self.tally;
        let all = t.get(Count::HandshakesFull) + t.get(Count::HandshakesResumed);
        let took = t.shaking_to.load(Relaxed).saturating_sub(t.shaking_from.load(Relaxed));
        all as f64 * 1e9 / took.max(1) as f64 * f64::from(u8::from(took > 0))
    }

    /// What there is to say of TLS; nothing where it is not spoken.
    fn tls_json(&self) -> Value {
        let Some(tls) = &self.plan.tls else { return Value::Null };
        json!({
            "mode": tls.mode.name(),
            "name": tls.name.to_str(),
            "agreed": self.end.agreed,
            "full": self.tally.get(Count::HandshakesFull),
            "resumed": self.tally.get(Count::HandshakesResumed),
            "rate": self.handshake_rate(),
            "refused": self.end.refused,
        })
    }

    fn per_request_us(&self, seconds: f64) -> f64 {
        seconds * 1e6 / (self.tally.get(Count::Responses).max(1)) as f64
    }

    fn loop_name(&self) -> &'static str {
        match (self.plan.rate, self.plan.arrival) {
            (None, _) => "closed",
            (Some(_), Kind::Constant) => "open, constant",
            (Some(_), Kind::Poisson) => "open, poisson",
        }
    }

    /// For a person.
    pub fn text(&self) -> String {
        let t = self.tally;
        let n = |c| t.get(c);
        let s = self.seconds();
        let mut out = String::new();
        let asked = self.plan.rate.map_or(String::new(), |r| format!(" (asked: {}/s)", human(r)));
        let mut line = |name: &str, text: &str| {
            let _ = writeln!(out, "{name:<11} {text}");
        };
        line(
            "requests",
            &format!(
                "{} in {s:.3} s, {} answered: {}/s{asked}, {}bps of bodies",
                n(Count::Requests),
                n(Count::Responses),
                human(self.rate()),
                human(n(Count::BodyBytes) as f64 * 8.0 / s),
            ),
        );
        let statuses = listed(&STATUSES, t);
        line("responses", if statuses.is_empty() { "none" } else { &statuses });
        let errors = listed(&Count::ERRORS, t);
        if !errors.is_empty() {
            line("errors", &errors);
        }
        if self.end.unfinished > 0 {
            line("unfinished", &format!("{} requests were under way at the end", self.end.unfinished));
        }
        if self.plan.rate.is_some() {
            let (arrivals, late, shed) = (n(Count::Arrivals), n(Count::Late), n(Count::Shed));
            line(
                "arrivals",
                &format!(
                    "{arrivals}, of which {late} had to wait for a connection, {shed} were shed, {} never sent",
                    self.end.unsent
                ),
            );
        }
        line(
            "connections",
            &format!(
                "{} opened, up to {} at once, from {}{}",
                n(Count::Connects),
                t.open_max.load(Relaxed),
                match self.plan.sources.iter().map(|s| u64::from(s.count())).sum::<u64>() {
                    0 | 1 => "one address".to_owned(),
                    n => format!("{n} addresses"),
                },
                match listed(&DELAYS, t) {
                    none if none.is_empty() => String::new(),
                    some => format!("; {some}"),
                }
            ),
        );
        let dropped = self.port_dropped();
        if dropped > 0 {
            line("dropped", &format!("{dropped} received frames, by the port"));
        }
        if let Some(tls) = &self.plan.tls {
            let agreed = self.end.agreed.as_ref().map_or(String::new(), |a| format!("; {a}"));
            line(
                "tls",
                &format!(
                    "{} handshakes full, {} resumed ({}): {}/s{agreed}",
                    n(Count::HandshakesFull),
                    n(Count::HandshakesResumed),
                    tls.mode.name(),
                    human(self.handshake_rate()),
                ),
            );
            if let Some(why) = &self.end.refused {
                line("", &format!("the last that failed: {why}"));
            }
        }
        let latencies = [
            ("latency", &t.latency),
            ("first byte", &t.first_byte),
            ("connect", &t.connect),
            ("handshake", &t.handshake),
        ];
        for (name, h) in latencies {
            if h.max() > 0 {
                line(name, &quantiles(h));
            }
        }
        let cpu = self.run.cpu_ns as f64 / 1e9;
        line(
            "core",
            &format!(
                "{:.1} % busy: {:.3} s, {:.2} µs a request; its thread's clock: {cpu:.3} s",
                self.busy_share() * 100.0,
                self.busy_seconds(),
                self.per_request_us(self.busy_seconds()),
            ),
        );
        line("memory", &format!("{} reserved", hugepages::human_bytes(self.run.memory_bytes as usize)));
        out
    }

    fn port_dropped(&self) -> u64 {
        [Ctr::DropPortMissed, Ctr::DropPortNoBuffer, Ctr::DropPortTooLong]
            .iter()
            .map(|c| self.counters.get(*c))
            .sum()
    }

    /// For a program.
    pub fn json(&self) -> Value {
        let t = self.tally;
        let n = |c: Count| t.get(c);
        let named = |all: &[Count]| -> Map<String, Value> {
            all.iter().map(|c| (c.name().to_owned(), n(*c).into())).collect()
        };
        let histogram: Vec<Value> = t
            .latency
            .counts()
            .enumerate()
            .filter(|(_, n)| *n > 0)
            .map(|(bucket, n)| json!([highest_of(bucket) as f64 / 1e3, n]))
            .collect();
        let cpu = self.run.cpu_ns as f64 / 1e9;
        let mut v = json!({
            "tool": "pktgen http",
            "port": self.run.port,
            "server": self.plan.server.to_string(),
            "loop": self.loop_name(),
            "connections": self.plan.connections,
            "pipeline": self.plan.pipeline,
            "close": self.plan.close,
            "seed": self.plan.seed,
            "rate": self.rate(),
            "rate_asked": self.plan.rate,
            "seconds": self.seconds(),
            "asking_seconds": self.end.asking_ns as f64 / 1e9,
            "requests": n(Count::Requests),
            "responses": n(Count::Responses),
            "failed": n(Count::Failed),
            "unfinished": self.end.unfinished,
            "errors": t.errors(),
            "errors_by": named(&Count::ERRORS),
            "status": named(&STATUSES),
            "bytes": n(Count::Bytes),
            "body_bytes": n(Count::BodyBytes),
            "arrivals": n(Count::Arrivals),
            "late": n(Count::Late),
            "shed": n(Count::Shed),
            "unsent": self.end.unsent,
            "connects": n(Count::Connects),
            "connections_max": t.open_max.load(Relaxed),
        });
        // In two parts: the macro has a depth.
        let rest = json!({
            "resent": n(Count::Resent),
            "no_port": n(Count::NoPort),
            "no_flow": n(Count::NoFlow),
            "time_wait_recycled": self.counters.get(Ctr::TcpTimeWaitRecycled),
            "retransmits": self.counters.get(Ctr::TcpRetransmits),
            "latency_us": latency(&t.latency),
            "first_byte_us": latency(&t.first_byte),
            "connect_us": latency(&t.connect),
            "handshake_us": latency(&t.handshake),
            "tls": self.tls_json(),
            "histogram_us": histogram,
            "frames": {
                "rx": self.counters.get(Ctr::RxPackets),
                "tx": self.counters.get(Ctr::TxSent),
                "rx_bytes": self.counters.get(Ctr::RxBytes),
                "tx_bytes": self.counters.get(Ctr::TxBytes),
                "dropped": self.port_dropped(),
            },
            "cpu": {
                "busy_seconds": self.busy_seconds(),
                "busy_share": self.busy_share(),
                "thread_seconds": cpu,
                "busy_us_per_response": self.per_request_us(self.busy_seconds()),
            },
            "memory_bytes": self.run.memory_bytes,
        });
        if let (Some(all), Value::Object(rest)) = (v.as_object_mut(), rest) {
            all.extend(rest);
        }
        v
    }
}

/// `2xx 17, 5xx 3`: those that are not 0.
fn listed(counts: &[Count], t: &Tally) -> String {
    let some = counts.iter().filter(|c| t.get(**c) > 0);
    let words: Vec<String> = some.map(|c| format!("{} {}", c.name(), t.get(*c))).collect();
    words.join(", ")
}

fn quantiles(shared: &Shared) -> String {
    let h = shared.read();
    let max = shared.max();
    let us = |ns: u64| format!("{:.1}", ns.min(max) as f64 / 1e3);
    let mut all: Vec<String> =
        QUANTILES.iter().map(|(name, q)| format!("{name} {}", us(h.quantile(*q)))).collect();
    all.push(format!("max {} µs", us(max)));
    all.join(", ")
}

fn latency(shared: &Shared) -> Value {
    let h = shared.read();
    let max = shared.max();
    let us = |ns: u64| Value::from(ns.min(max) as f64 / 1e3);
    let mut all: Map<String, Value> =
        QUANTILES.iter().map(|(name, q)| ((*name).to_owned(), us(h.quantile(*q)))).collect();
    all.insert("max".to_owned(), us(max));
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::super::tls::{Mode, Secured};
    use super::*;

    fn report(tally: &Tally, look: impl Fn(&Report<'_>)) {
        let plan = Plan {
            server: ([10, 0, 0, 1], 80).into(),
            requests: Vec::new(),
            connections: 2,
            pipeline: 1,
            close: false,
            rate: Some(1000.0),
            arrival: Kind::Poisson,
            waiting_max: 1,
            duration_ns: None,
            count: Some(4),
            warmup_ns: 0,
            linger_ns: 0,
            timeout_ns: 1,
            ramp: None,
            sources: Vec::new(),
            verify: false,
            seed: 1,
            epoch_ms: 0,
            tls: None,
        };
        let end = End {
            failed: None,
            measured_ns: 2_000_000_000,
            asking_ns: 1_000_000_000,
            unfinished: 1,
            unsent: 3,
            agreed: None,
            refused: None,
        };
        let run =
            Run { port: "tap:x".to_owned(), memory_bytes: 1 << 20, cpu_ns: 500_000_000, hz: 1_000_000_000 };
        look(&Report { plan: &plan, end: &end, tally, counters: &Snapshot::default(), run: &run });
    }

    fn some() -> Tally {
        let t = Tally::default();
        t.add(Count::Requests, 4);
        t.add(Count::Responses, 2);
        t.inc(Count::Failed);
        t.inc(Count::Reset);
        t.add(Count::Status2, 2);
        t.add(Count::Late, 1);
        t.inc(Count::Resent);
        for ns in [1_500_000, 3_000_000] {
            t.latency.record(ns);
        }
        t
    }

    #[test]
    fn a_person_is_told_what_there_is_to_tell() {
        report(&some(), |r| {
            let text = r.text();
            for line in [
                "requests    4 in 2.000 s, 2 answered: 1/s (asked: 1k/s), 0bps of bodies\n",
                "responses   2xx 2\n",
                "errors      reset 1\n",
                "unfinished  1 requests were under way at the end\n",
                "arrivals    0, of which 1 had to wait for a connection, 0 were shed, 3 never sent\n",
                "from one address; resent 1\n",
                "max 3000.0 µs\n",
            ] {
                assert!(text.contains(line), "{line}: {text}");
            }
            assert!(!text.contains("connect "), "none was timed: {text}");
        });
    }

    #[test]
    fn what_is_told_of_tls() {
        use l7::tls::origin::Trust;

        let t = some();
        t.add(Count::HandshakesFull, 1);
        t.add(Count::HandshakesResumed, 9);
        t.shaking_from.store(500_000_000, Relaxed);
        t.shaking_to.store(2_500_000_000, Relaxed);
        t.handshake.record(2_000_000);
        let tls = Secured::new("a.example", Trust::Anybody, Mode::Resumed, 2, None).expect("good");
        report(&t, |r| {
            assert_eq!(r.json()["tls"], Value::Null);
            let plan = Plan { tls: Some(tls.clone()), ..r.plan.clone() };
            let end = End {
                agreed: Some("TLS 1.3".to_owned()),
                refused: Some("alert x".to_owned()),
                ..r.end.clone()
            };
            let r = Report { plan: &plan, end: &end, ..*r };
            let text = r.text();
            assert!(
                text.contains("tls         1 handshakes full, 9 resumed (resumed): 5/s; TLS 1.3\n"),
                "{text}"
            );
            assert!(
                text.contains("the last that failed: alert x\n") && text.contains("handshake   p50 "),
                "{text}"
            );
            let v = r.json();
            assert_eq!(
                (&v["tls"]["resumed"], &v["tls"]["rate"], &v["tls"]["mode"]),
                (&9.into(), &5.0.into(), &"resumed".into())
            );
            let page = include_str!("../../../docs/pktgen-http.md");
            for key in v["tls"].as_object().expect("an object").keys() {
                assert!(
                    page.contains(&format!("{key}`")) || page.contains(&format!("{key},")),
                    "tls.{key} is not in the page"
                );
            }
        });
    }

    #[test]
    fn the_page_has_every_field() {
        let page = include_str!("../../../docs/pktgen-http.md");
        report(&some(), |r| {
            let v = r.json();
            assert_eq!((&v["errors"], &v["responses"], &v["rate"]), (&1.into(), &2.into(), &1.0.into()));
            assert_eq!(v["latency_us"]["max"], 3000.0);
            let buckets = v["histogram_us"].as_array().expect("buckets");
            assert_eq!(buckets.iter().filter_map(|b| b[1].as_u64()).collect::<Vec<_>>(), [1, 1]);
            assert!(buckets[0][0].as_f64().is_some_and(|us| (1500.0..1550.0).contains(&us)), "{v}");
            for (key, value) in v.as_object().expect("an object") {
                let told = [format!("`{key}`"), format!("`{key}."), format!("{key}.{{")];
                assert!(told.iter().any(|t| page.contains(t)), "{key} is not in docs/pktgen-http.md");
                if key == "tls" || key == "cpu" || key == "errors_by" {
                    for inner in value.as_object().into_iter().flatten().map(|(key, _)| key) {
                        assert!(
                            page.contains(&format!("{inner}`")),
                            "{key}.{inner} is not in docs/pktgen-http.md"
                        );
                    }
                }
            }
        });
    }
}
