//! The report for a person, and the screen that changes each second.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

use dataplane::counters::{Segment, Snapshot};
use dataplane::{Ctr, Hist, Stage};

use super::json::busy;

/// A screen that is drawn anew each second.
pub struct Screen {
    clear: bool,
    last: Option<(Instant, Snapshot)>,
}

impl Screen {
    /// `clear`: the output is a terminal.
    pub fn new(clear: bool) -> Screen {
        Screen { clear, last: None }
    }

    /// Draws everything under a headline.
    pub fn draw(&mut self, head: &str, segment: &Segment) -> bool {
        self.draw_section(head, segment, "")
    }

    /// Draws one section; `false` when nobody reads it any more.
    pub fn draw_section(&mut self, head: &str, segment: &Segment, section: &str) -> bool {
        let now = Instant::now();
        let text = report(segment, section, self.last.as_ref().map(|(t, s)| (now - *t, s)));
        self.last = Some((now, segment.read()));
        let mut out = std::io::stdout().lock();
        let clear = if self.clear { "\x1b[H\x1b[J" } else { "" };
        let head = if head.is_empty() { String::new() } else { format!("{head}\n\n") };
        writeln!(out, "{clear}{head}{text}").and_then(|()| out.flush()).is_ok()
    }
}

/// The report; with `before` (how long ago, and what was counted then), also rates.
pub fn report(segment: &Segment, section: &str, before: Option<(std::time::Duration, &Snapshot)>) -> String {
    let s = segment.read();
    let mut o = String::new();
    let want = |name: &str| section.is_empty() || section == "all" || section == name;
    let rate = |c: Ctr| {
        before.map(|(t, old)| s.get(c).saturating_sub(old.get(c)) as f64 / t.as_secs_f64().max(0.001))
    };
    // Writing to a String cannot fail.
    if want("node") {
        let facts: serde_json::Value = serde_json::from_str(&segment.facts()).unwrap_or_default();
        let state = segment.state().map_or("unknown", |s| s.word());
        let _ = writeln!(
            o,
            "node {}  {state}  pid {}  cores {}  busy {:.1} %",
            facts["name"].as_str().unwrap_or("?"),
            segment.pid(),
            segment.cores(),
            busy(&s) * 100.0
        );
        for p in facts["ports"].as_array().into_iter().flatten() {
            let text = |k: &str| p[k].as_str().unwrap_or("?").to_owned();
            let _ =
                writeln!(o, "  port {}  {} {}  {}", text("name"), text("kind"), text("device"), text("mode"));
            if let Some(name) = p["host_if"].as_str() {
                let _ = writeln!(o, "    shared with the kernel  exception path: TAP {name}");
            }
            if let Some(up) = p["link"]["up"].as_bool() {
                let speed =
                    p["link"]["speed_mbps"].as_u64().map_or(String::new(), |n| format!(", {n} Mbit/s"));
                let (word, changes) = (if up { "up" } else { "down" }, &p["link"]["changes"]);
                let _ = writeln!(o, "    link {word}{speed}, changed {changes} times");
            }
            if section == "all" || section == "node" {
                for (name, n) in p["device_counts"].as_object().into_iter().flatten() {
                    let _ = writeln!(o, "    {name} {n}");
                }
            }
        }
        if segment.cores() > 1 {
            cores(&mut o, segment);
        }
        let _ = writeln!(o);
    }
    if want("stages") {
        stages(&mut o, &s, segment.cycles_per_second());
    }
    if want("law") {
        law(&mut o, &s);
    }
    if want("drops") {
        drops(&mut o, &s);
    }
    if want("http") {
        let per_second = rate(Ctr::HttpRequests).map_or(String::new(), |r| format!("  ({r:.0}/s)"));
        let _ = writeln!(
            o,
            "http   requests {}{per_second}  active {}",
            s.get(Ctr::HttpRequests),
            s.get(Ctr::HttpActive)
        );
        list(&mut o, &s, &["http.", "origin.", "log."], section == "all" || section == "http");
    }
    if want("cache") && (!section.is_empty() || any(&s, "cache.")) {
        let _ = writeln!(o, "cache");
        list(&mut o, &s, &["cache."], !section.is_empty());
    }
    if want("tls") && (!section.is_empty() || any(&s, "tls.")) {
        let _ = writeln!(
            o,
            "tls    connections {}  handshakes {}",
            s.get(Ctr::TlsSessions),
            s.get(Ctr::TlsActive)
        );
        list(&mut o, &s, &["tls."], !section.is_empty());
    }
    if want("tcp") {
        let _ = writeln!(o, "tcp    flows {}  time-wait {}", s.get(Ctr::TcpFlows), s.get(Ctr::TcpInTimeWait));
        list(
            &mut o,
            &s,
            &["tcp.", "udp.", "arp.", "nd.", "icmp.", "neighbour."],
            section == "all" || section == "tcp",
        );
    }
    if section == "all" {
        let _ = writeln!(o, "packets and cores");
        list(&mut o, &s, &["rx.", "tx.", "drop.", "steer.", "mail.", "pool.", "loop."], true);
    }
    if want("latency") {
        latency(&mut o, &s);
    }
    o.truncate(o.trim_end().len());
    o
}

fn cores(o: &mut String, segment: &Segment) {
    let _ = writeln!(
        o,
        "  {:<6} {:>7} {:>14} {:>14} {:>12} {:>8} {:>12}",
        "core", "busy %", "rx", "tx", "requests", "flows", "handed over"
    );
    for core in 0..segment.cores() {
        let s = segment.read_core(core);
        let _ = writeln!(
            o,
            "  {core:<6} {:>7.1} {:>14} {:>14} {:>12} {:>8} {:>12}",
            busy(&s) * 100.0,
            s.get(Ctr::RxPackets),
            s.get(Ctr::TxSent),
            s.get(Ctr::HttpRequests),
            s.get(Ctr::TcpFlows),
            s.get(Ctr::RxHandedOver)
        );
    }
}

fn stages(o: &mut String, s: &Snapshot, hz: u64) {
    let _ = writeln!(
        o,
        "{:<8} {:>12} {:>14} {:>10} {:>13} {:>10}",
        "stage", "calls", "packets", "pkts/call", "cycles/pkt", "ns/pkt"
    );
    for st in Stage::ALL {
        let c = s.stage(*st);
        let per_call = c.packets as f64 / c.calls.max(1) as f64;
        let cycles = c.cycles as f64 / c.packets.max(1) as f64;
        let ns = cycles * 1e9 / hz.max(1) as f64;
        let _ = writeln!(
            o,
            "{:<8} {:>12} {:>14} {per_call:>10.1} {cycles:>13.0} {ns:>10.0}",
            st.name(),
            c.calls,
            c.packets
        );
    }
    let _ = writeln!(o);
}

fn law(o: &mut String, s: &Snapshot) {
    let g = |c| s.get(c);
    let between = match (g(Ctr::RxTakenOver), g(Ctr::RxHandedOver)) {
        (0, 0) => [String::new(), String::new()],
        (taken, handed) => [format!(" + taken over {taken}"), format!(" + handed over {handed}")],
    };
    let [taken, handed] = between;
    let _ = writeln!(
        o,
        "law    rx {}{taken} = accepted {} + forwarded {} + punted {}{handed} + dropped {} {}",
        g(Ctr::RxPackets),
        g(Ctr::RxAccepted),
        g(Ctr::RxForwarded),
        g(Ctr::RxPunted),
        s.rx_drops(),
        held(s.rx_imbalance())
    );
    let _ = writeln!(
        o,
        "       tx built {} = sent {} + dropped {} + queued {} {}\n",
        g(Ctr::TxBuilt),
        g(Ctr::TxSent),
        s.tx_drops(),
        g(Ctr::TxQueued),
        held(s.tx_imbalance())
    );
}

fn held(n: i64) -> String {
    if n == 0 { "✓".to_owned() } else { format!("+ {n} under way") }
}

fn drops(o: &mut String, s: &Snapshot) {
    let mut any = false;
    for c in Ctr::ALL.iter().filter(|c| (c.is_rx_drop() || c.is_tx_drop()) && s.get(**c) > 0) {
        if !any {
            let _ = writeln!(o, "drops");
            any = true;
        }
        let _ = writeln!(o, "  {:<28} {:>12}  {}", c.name(), s.get(*c), c.help());
    }
    let _ = writeln!(o, "{}", if any { "" } else { "drops  none\n" });
}

/// Whether a counter with this prefix is not 0.
fn any(s: &Snapshot, prefix: &str) -> bool {
    Ctr::ALL.iter().any(|c| c.name().starts_with(prefix) && s.get(*c) > 0)
}

/// Counters by prefix: those that are not 0, or all of them.
fn list(o: &mut String, s: &Snapshot, prefixes: &[&str], all: bool) {
    let wanted = |c: &&Ctr| prefixes.iter().any(|p| c.name().starts_with(p)) && (all || s.get(**c) > 0);
    for c in Ctr::ALL.iter().filter(wanted) {
        let _ = writeln!(o, "  {:<28} {:>12}  {}", c.name(), s.get(*c), c.help());
    }
    let _ = writeln!(o);
}

fn latency(o: &mut String, s: &Snapshot) {
    let _ = writeln!(
        o,
        "{:<18} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "latency, µs", "count", "p50", "p90", "p99", "p99.9", "max"
    );
    for h in Hist::ALL {
        let v = s.hist(*h);
        let us = |q: f64| v.quantile(q) as f64 / 1000.0;
        let _ = writeln!(
            o,
            "{:<18} {:>10} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
            h.name(),
            v.count(),
            us(0.5),
            us(0.9),
            us(0.99),
            us(0.999),
            v.max() as f64 / 1000.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_has_every_counter_once() {
        let text = report(&Segment::in_memory(1), "all", None);
        for c in Ctr::ALL {
            let lines = text.lines().filter(|l| l.split_whitespace().next() == Some(c.name()));
            assert_eq!(lines.count(), 1, "{}", c.name());
        }
    }

    #[test]
    fn what_is_not_used_is_not_shown_unless_it_is_asked_for() {
        let segment = Segment::in_memory(1);
        let shows = |section: &str| report(&segment, section, None).contains("tls ");
        assert_eq!((shows(""), shows("tls"), shows("tcp")), (false, true, false));
        segment.writer(0).inc(Ctr::TlsShedFull);
        assert_eq!((shows(""), shows("tls"), shows("tcp")), (true, true, false));
        assert!(report(&segment, "", None).contains("tls.shed_full"));
    }
}
