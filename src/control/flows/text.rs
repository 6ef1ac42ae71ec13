//! A connection for a person: a line of columns, and one with what TCP knows, by the words of `ss -ti`.

use std::fmt::Write as _;

use serde_json::Value;

/// Over the columns.
pub const HEADER: &str =
    "STATE        RECV-Q   SEND-Q  LOCAL                  PEER                   CORE  ROLE    LISTENER";

/// Two lines, without a line feed at the end.
pub fn lines(f: &Value) -> String {
    let text = |k: &str| f[k].as_str().unwrap_or("?");
    let n = |k: &str| f[k].as_u64().unwrap_or(0);
    let ms = |k: &str| n(k) as f64 / 1000.0;
    let mut o = format!(
        "{:<11}{:>8} {:>8}  {:<22} {:<22} {:>4}  {:<7} {:>8}\n   ",
        text("state"),
        n("receive_queue_bytes"),
        n("send_queue_bytes"),
        text("local"),
        text("peer"),
        n("core"),
        text("role"),
        f["listener"].as_u64().map_or("-".to_owned(), |l| l.to_string()),
    );
    // Writing to a String cannot fail.
    for name in f["options"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let _ = match name {
            "wscale" => write!(o, " wscale:{},{}", n("send_wscale"), n("receive_wscale")),
            other => write!(o, " {other}"),
        };
    }
    let _ = write!(o, " {}", text("algorithm"));
    let _ = write!(o, " rto:{}", ms("rto_us"));
    if n("backoff") > 0 {
        let _ = write!(o, " backoff:{}", n("backoff"));
    }
    if n("srtt_us") > 0 {
        let _ = write!(o, " rtt:{}/{}", ms("srtt_us"), ms("rttvar_us"));
    }
    let mss = n("mss_bytes").max(1);
    let _ =
        write!(o, " mss:{} rcvmss:{} cwnd:{}", n("mss_bytes"), n("peer_mss_bytes"), n("cwnd_bytes") / mss);
    if let Some(bytes) = f["ssthresh_bytes"].as_u64() {
        let _ = write!(o, " ssthresh:{}", bytes / mss);
    }
    for (word, key) in [
        ("bytes_sent", "bytes_sent"),
        ("bytes_retrans", "retransmitted_bytes"),
        ("bytes_acked", "bytes_acked"),
        ("bytes_received", "bytes_received"),
        ("segs_out", "segments_sent"),
        ("segs_in", "segments_received"),
        ("unacked", "unacked_bytes"),
        ("in_flight", "in_flight_bytes"),
        ("sacked", "sacked_bytes"),
        ("retrans", "retransmitted_segments"),
        ("rtos", "timeouts"),
        ("recoveries", "recoveries"),
        ("tlps", "tail_probes"),
        ("undone", "undone"),
    ] {
        if n(key) > 0 {
            let _ = write!(o, " {word}:{}", n(key));
        }
    }
    if let Some(us) = f["since_sent_us"].as_u64() {
        let _ = write!(o, " lastsnd:{}", us / 1000);
    }
    let _ = write!(o, " lastrcv:{}", n("since_received_us") / 1000);
    if n("pacing_bytes_per_second") > 0 {
        let _ = write!(o, " pacing_rate:{}", rate(n("pacing_bytes_per_second")));
    }
    if n("min_rtt_us") > 0 {
        let _ = write!(o, " minrtt:{}", ms("min_rtt_us"));
    }
    if f["recovery"] != "open" {
        let _ = write!(o, " {}", text("recovery"));
    }
    let _ = write!(o, " snd_wnd:{} rcv_wnd:{}", n("send_window_bytes"), n("receive_window_bytes"));
    if f["orphan"] == true {
        o.push_str(" orphan");
    }
    o
}

/// Bytes a second as bits a second, with three digits or so.
pub fn rate(bytes_per_second: u64) -> String {
    let bits = bytes_per_second as f64 * 8.0;
    match bits {
        b if b >= 1e9 => format!("{:.2}Gbps", b / 1e9),
        b if b >= 1e6 => format!("{:.1}Mbps", b / 1e6),
        b if b >= 1e3 => format!("{:.1}Kbps", b / 1e3),
        b => format!("{b:.0}bps"),
    }
}
