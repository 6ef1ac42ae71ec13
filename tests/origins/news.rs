//! What the operator is told of origins.

use std::net::IpAddr;

use dataplane::Ctr;
use dataplane::lines::LineReader;
use l7::proxy::{HealthChecks, LINES_MAX, NEWS_INFO, NEWS_WARN, ProxyConfig};
use l7::upstream::{CheckSettings, OutlierSettings};

use crate::rig::{MS, V6, count, get, hello, logged_node, origin, site, statuses, v4, wait};
use crate::support::peers::{Act, Asked};

const SECOND: u64 = 1_000;

fn checked(mut config: ProxyConfig) -> ProxyConfig {
    let settings = CheckSettings {
        path: b"/health".to_vec(),
        interval_ns: SECOND * MS,
        timeout_ns: 500 * MS,
        rise: 2,
        fall: 2,
        statuses: vec![200..=299],
    };
    config.upstreams[0].checks = Some(HealthChecks { settings, host: None });
    config
}

/// What was said since it was asked last.
fn news(lines: &mut LineReader) -> Vec<(u16, String)> {
    let mut all = Vec::new();
    lines.take(|tag, line| {
        if tag >= NEWS_INFO {
            all.push((tag, String::from_utf8_lossy(line).into_owned()));
        }
    });
    all
}

fn says(status: u16) -> impl FnMut(&Asked, u64) -> Act {
    move |_, _| Act::Send(format!("HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n").into_bytes(), true)
}

#[test]
fn checks_say_why() {
    let (mut p, mut lines) = logged_node(checked(site(vec![origin(&[v4()])], false)));
    let down =
        |why: &str| (NEWS_WARN, format!("origin origin.lab of site * is down, by its health checks: {why}"));
    let up = || (NEWS_INFO, "origin origin.lab of site * is up again, by its health checks".to_owned());
    wait(&mut p, 3 * SECOND, &mut says(204));
    assert_eq!(news(&mut lines), [], "it was up from the start");
    wait(&mut p, 5 * SECOND, &mut says(500));
    assert_eq!(news(&mut lines), [down("status 500")], "once");
    wait(&mut p, 5 * SECOND, &mut says(204));
    assert_eq!(news(&mut lines), [up()]);
    p.refuses = true;
    wait(&mut p, 5 * SECOND, &mut says(204));
    assert_eq!(news(&mut lines), [down("the connection is refused")]);
    p.refuses = false;
    wait(&mut p, 5 * SECOND, &mut says(204));
    assert_eq!(news(&mut lines), [up()]);
    p.silent = true;
    wait(&mut p, 5 * SECOND, &mut says(204));
    assert_eq!(news(&mut lines), [down("no answer in time")]);
    p.silent = false;
    wait(&mut p, 5 * SECOND, &mut says(204));
    assert_eq!(news(&mut lines), [up()]);
    let mut nonsense = |_: &Asked, _: u64| Act::Send(b"220 mail.lab\r\n".to_vec(), false);
    wait(&mut p, 5 * SECOND, &mut nonsense);
    assert_eq!(news(&mut lines), [down("its answer is not HTTP")]);
    wait(&mut p, 5 * SECOND, &mut says(204));
    assert_eq!(news(&mut lines), [up()]);
    wait(&mut p, 5 * SECOND, &mut |_, _| Act::Close);
    assert_eq!(news(&mut lines), [down("it has closed the connection without an answer")]);
}

#[test]
fn ejections_say_for_how_long() {
    let mut config = site(vec![origin(&[V6, v4()])], false);
    config.upstreams[0].settings.outlier =
        Some(OutlierSettings { failures: 2, ejection_ns: 10 * SECOND * MS });
    let (mut p, mut lines) = logged_node(config);
    p.refuses = true;
    for n in 0..4 {
        let client = p.connect(&get("/1"));
        p.settle(&mut says(204));
        assert_eq!(statuses(&mut p, client), [502]);
        p.client_resets(client);
        let said = news(&mut lines);
        let out =
            "origin origin.lab of site * is left out for 10 s, by core 0: it has failed requests in a row";
        // Out of one origin, all are out: it is asked nevertheless, and not ejected again.
        assert_eq!(said, if n == 1 { vec![(NEWS_WARN, out.to_owned())] } else { vec![] });
    }
    p.refuses = false;
    wait(&mut p, 11 * SECOND, &mut says(204));
    let mut asked = 0;
    let client = p.connect(&get("/1"));
    p.settle(&mut hello(&mut asked));
    assert_eq!(statuses(&mut p, client), [200]);
    let back =
        "origin origin.lab of site * gets requests again, by core 0: the time that it was left out is over";
    assert_eq!(news(&mut lines), [(NEWS_INFO, back.to_owned())]);
}

#[test]
fn many_at_once_are_bounded() {
    let all: Vec<IpAddr> = (10..74).map(|n| IpAddr::from([10, 0, 0, n])).collect();
    let origins = all.iter().map(|a| origin(&[*a])).collect();
    let (mut p, mut lines) = logged_node(checked(site(origins, false)));
    p.refuses = true;
    wait(&mut p, 5 * SECOND, &mut says(204));
    let said = news(&mut lines);
    let left_out = count(&p, Ctr::LogNewsLeftOut);
    assert_eq!(said.len() as u64 + left_out, all.len() as u64, "all are down");
    assert!(left_out > 20, "{left_out}");
    // They go down within a second or so of each other.
    assert!(said.len() <= 3 * usize::from(LINES_MAX), "{}", said.len());
    p.refuses = false;
    wait(&mut p, 5 * SECOND, &mut says(204));
    let said: Vec<String> = news(&mut lines).into_iter().map(|(_, line)| line).collect();
    let told = |l: &String| l.split_once("(before it, ")?.1.split_once(' ')?.0.parse::<u64>().ok();
    let told: u64 = said.iter().filter_map(told).sum();
    assert!(told >= left_out, "what was left out is told of: {said:?}");
}
