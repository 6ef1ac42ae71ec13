//! The stable JSON of `millrace stats --json`, also served by the demo's page. Documented in docs/stats.md.

use std::time::{SystemTime, UNIX_EPOCH};

use dataplane::counters::{Segment, Snapshot};
use dataplane::{Ctr, Hist, Stage};
use serde_json::{Map, Value, json};

/// Everything, as one object.
pub fn json(segment: &Segment) -> Value {
    let s = segment.read();
    let get = |c: Ctr| s.get(c);
    let counters: Map<String, Value> =
        Ctr::ALL.iter().map(|c| (c.name().to_owned(), json!(get(*c)))).collect();
    let drops: Vec<Value> = Ctr::ALL
        .iter()
        .filter(|c| (c.is_rx_drop() || c.is_tx_drop()) && get(**c) > 0)
        .map(|c| json!({ "name": c.name(), "count": get(*c), "help": c.help() }))
        .collect();
    json!({
        "node": node(segment, &s),
        "cores": cores(segment),
        "stages": stages(&s),
        "conservation": {
            "rx": get(Ctr::RxPackets), "accepted": get(Ctr::RxAccepted), "forwarded": get(Ctr::RxForwarded),
            "punted": get(Ctr::RxPunted), "dropped": s.rx_drops(), "held": s.rx_imbalance(),
            "handed_over": get(Ctr::RxHandedOver), "taken_over": get(Ctr::RxTakenOver), "in_mail": s.in_mail(),
            "tx_built": get(Ctr::TxBuilt), "tx_sent": get(Ctr::TxSent), "tx_dropped": s.tx_drops(),
            "tx_queued": get(Ctr::TxQueued), "tx_imbalance": s.tx_imbalance(),
            // A reader may look in the middle of a pass: a burst or two may be on their way.
            "holds": s.rx_imbalance().unsigned_abs() <= 128 && s.tx_imbalance().unsigned_abs() <= 2048,
        },
        "http": {
            "requests": get(Ctr::HttpRequests), "active": get(Ctr::HttpActive),
            "completed": get(Ctr::HttpComplete), "aborted": get(Ctr::HttpAborted),
            "client_gone": get(Ctr::HttpClientGone), "rejected": get(Ctr::HttpRejected),
            "responses_1xx": get(Ctr::Http1xx), "responses_2xx": get(Ctr::Http2xx),
            "responses_3xx": get(Ctr::Http3xx), "responses_4xx": get(Ctr::Http4xx),
            "responses_5xx": get(Ctr::Http5xx),
            "connections_accepted": get(Ctr::HttpConnections), "connections_open": get(Ctr::HttpOpen),
            "origin_connects": get(Ctr::OriginConnects), "origin_reused": get(Ctr::OriginReused),
            "origin_idle": get(Ctr::OriginIdle),
        },
        "latency": {
            "first_byte": latency(&s, Hist::FirstByteOrigin),
            "last_byte": latency(&s, Hist::LastByte),
            "origin_connect": latency(&s, Hist::OriginConnect),
        },
        "drops": drops,
        "counters": counters,
    })
}

fn node(segment: &Segment, s: &Snapshot) -> Value {
    let mut node = serde_json::from_str::<Value>(&segment.facts()).unwrap_or_else(|_| json!({}));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let kind = node["ports"][0]["kind"].clone();
    if let Some(o) = node.as_object_mut() {
        o.insert("pid".into(), json!(segment.pid()));
        o.insert("state".into(), json!(segment.state().map(|s| s.word())));
        o.insert("uptime_seconds".into(), json!(now.saturating_sub(segment.started())));
        o.insert("port_kind".into(), kind);
        o.insert("busy_percent".into(), json!(percent(busy(s))));
    }
    node
}

fn cores(segment: &Segment) -> Vec<Value> {
    let core = |n| {
        let s = segment.read_core(n);
        let counters: Map<String, Value> =
            Ctr::ALL.iter().map(|c| (c.name().to_owned(), json!(s.get(*c)))).collect();
        json!({ "core": n, "busy_percent": percent(busy(&s)), "counters": counters })
    };
    (0..segment.cores()).map(core).collect()
}

fn percent(share: f64) -> f64 {
    (share * 1000.0).round() / 10.0
}

/// Share of the cores' cycles that were spent in passes with something to do.
pub(super) fn busy(s: &Snapshot) -> f64 {
    let (busy, idle) = (s.get(Ctr::LoopBusy) as f64, s.get(Ctr::LoopIdle) as f64);
    if busy + idle == 0.0 { 0.0 } else { busy / (busy + idle) }
}

fn stages(s: &Snapshot) -> Vec<Value> {
    Stage::ALL
        .iter()
        .map(|st| {
            let c = s.stage(*st);
            json!({ "name": st.name(), "calls": c.calls, "packets": c.packets, "cycles": c.cycles, "help": st.help() })
        })
        .collect()
}

fn latency(s: &Snapshot, h: Hist) -> Value {
    let h = s.hist(h);
    let us = |q: f64| (h.quantile(q) as f64 / 100.0).round() / 10.0;
    json!({
        "count": h.count(), "p50_us": us(0.5), "p90_us": us(0.9), "p99_us": us(0.99), "p999_us": us(0.999),
        "max_us": (h.max() as f64 / 100.0).round() / 10.0,
    })
}
