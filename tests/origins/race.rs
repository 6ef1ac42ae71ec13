//! The race between an origin's addresses (RFC 8305), as clients and the origin see it.

use std::net::IpAddr;

use dataplane::Ctr;
use l7::upstream::OutlierSettings;

use crate::rig::{CONNECT_MS, MS, V6, at_rest, attempts, count, get, hello, node, origin, site, statuses};
use crate::rig::{two_addresses, v4, wait};
use crate::support::peers::{Act, Way};

#[test]
fn a_black_hole_costs_the_delay_once() {
    let mut p = two_addresses();
    p.ways.insert(V6, Way::Silent);
    let mut asked = 0;
    let start = p.now;
    let client = p.connect(&get("/1"));
    wait(&mut p, 240, &mut hello(&mut asked));
    assert_eq!((statuses(&mut p, client), asked), (vec![], 0));
    wait(&mut p, 20, &mut hello(&mut asked));
    assert_eq!((statuses(&mut p, client), asked), (vec![200], 1));
    assert_eq!(attempts(&p, start), [(V6, 0), (v4(), 250)]);
    // The next connection begins with the family that won.
    p.origin_resets_all();
    wait(&mut p, 100, &mut |_, _| Act::Hold);
    let start = p.now;
    p.client_sends(client, &get("/2"));
    p.settle(&mut hello(&mut asked));
    assert_eq!((statuses(&mut p, client), asked), (vec![200], 2));
    assert_eq!(attempts(&p, start), [(v4(), 0)]);
    let counts = [Ctr::OriginConnects, Ctr::OriginRaced, Ctr::OriginConnectFailed, Ctr::OriginConnectTimeout];
    assert_eq!(counts.map(|c| count(&p, c)), [3, 1, 0, 0], "a loser has not failed");
    at_rest(&mut p, client);
}

#[test]
fn a_refusal_costs_nothing() {
    for (refuses, wins) in [(V6, v4()), (v4(), V6)] {
        let mut p = two_addresses();
        p.ways.insert(refuses, Way::Refuses);
        let mut asked = 0;
        let start = p.now;
        let client = p.connect(&get("/1"));
        p.settle(&mut hello(&mut asked));
        assert_eq!((statuses(&mut p, client), asked), (vec![200], 1));
        assert_eq!(attempts(&p, start).last(), Some(&(wins, 0)));
        assert_eq!(count(&p, Ctr::OriginRaced), 0, "there was none beside it");
        at_rest(&mut p, client);
    }
}

#[test]
fn the_first_connection_wins_and_the_other_is_closed() {
    // How long each takes to answer a SYN, and which one is first: the second begins 250 ms later.
    for (v6_ms, v4_ms, wins, at_ms) in [(400, 400, V6, 400), (600, 100, v4(), 350), (350, 100, V6, 350)] {
        let mut p = two_addresses();
        p.ways.insert(V6, Way::Slow(v6_ms * MS));
        p.ways.insert(v4(), Way::Slow(v4_ms * MS));
        let mut asked = Vec::new();
        let start = p.now;
        let client = p.connect(b"POST /order HTTP/1.1\r\nHost: site.lab\r\nContent-Length: 3\r\n\r\none");
        let mut origin = |who: &(u16, String), _: u64| {
            asked.push(who.0);
            Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(), false)
        };
        wait(&mut p, at_ms - 10, &mut origin);
        assert!(statuses(&mut p, client).is_empty());
        wait(&mut p, 1_000, &mut origin);
        assert_eq!(statuses(&mut p, client), [200], "{v6_ms} {v4_ms}");
        assert_eq!(attempts(&p, start), [(V6, 0), (v4(), 250)]);
        let port = |ip: IpAddr| p.syns.iter().find(|(_, to, _)| *to == ip).map(|(.., port)| *port);
        let loser = port(if wins == V6 { v4() } else { V6 }).expect("it was tried");
        // Both may be there in the same burst: then either may be taken, but one only.
        if (v6_ms, v4_ms) != (350, 100) {
            assert_eq!(asked, [port(wins).expect("it was tried")], "the request is sent once");
            assert!(p.origin_is_left(loser), "the loser's connection is ended");
        }
        assert_eq!(asked.len(), 1, "the request is sent once");
        assert_eq!(count(&p, Ctr::OriginConnectFailed) + count(&p, Ctr::OriginConnectTimeout), 0);
        at_rest(&mut p, client);
    }
}

#[test]
fn all_addresses_dead_is_one_error() {
    let mut p = two_addresses();
    p.refuses = true;
    let client = p.connect(&get("/1"));
    p.settle(&mut |_, _| Act::Hold);
    assert_eq!((statuses(&mut p, client), p.syns.len()), (vec![502], 2));

    (p.refuses, p.silent) = (false, true);
    let start = p.now;
    p.client_sends(client, &get("/2"));
    wait(&mut p, CONNECT_MS + 200, &mut |_, _| Act::Hold);
    assert!(statuses(&mut p, client).is_empty(), "the second is still under way");
    wait(&mut p, 100, &mut |_, _| Act::Hold);
    assert_eq!(statuses(&mut p, client), [504]);
    assert_eq!(attempts(&p, start).len(), 2);
    wait(&mut p, 20_000, &mut |_, _| Act::Hold);
    assert!(statuses(&mut p, client).is_empty(), "once");
    assert_eq!(count(&p, Ctr::OriginConnectTimeout), 2);
    at_rest(&mut p, client);
}

#[test]
fn no_more_than_two_at_a_time() {
    let at = |n: u8| IpAddr::from([10, 0, 0, n]);
    let all = [at(3), at(4), at(5), at(6)];
    let mut p = node(site(vec![origin(&all)], false));
    for a in &all[..3] {
        p.ways.insert(*a, Way::Silent);
    }
    let start = p.now;
    let client = p.connect(&get("/1"));
    let mut asked = 0;
    for ms in [10, 250, 250, 250] {
        wait(&mut p, ms, &mut hello(&mut asked));
        let own = p.cores[0].pipeline.stack.tcp.flows().count() - 1;
        assert!(own <= 2, "{own} connections race");
    }
    assert_eq!(attempts(&p, start), [(at(3), 0), (at(4), 250), (at(5), 500), (at(6), 750)]);
    assert_eq!((statuses(&mut p, client), asked), (vec![200], 1));
    at_rest(&mut p, client);
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_nothing() {
    let mut config = site(vec![origin(&[V6, v4()])], false);
    config.upstreams[0].settings.connections_max = Some(1);
    let mut p = node(config);
    p.silent = true;
    for after_ms in [10, 260] {
        let client = p.connect(&get("/1"));
        wait(&mut p, after_ms, &mut |_, _| Act::Hold);
        assert_eq!(count(&p, Ctr::TcpFlows), if after_ms > 250 { 3 } else { 2 });
        at_rest(&mut p, client);
    }
    // Its place at the origin is free again.
    p.silent = false;
    let mut asked = 0;
    let client = p.connect(&get("/2"));
    p.settle(&mut hello(&mut asked));
    assert_eq!((statuses(&mut p, client), asked), (vec![200], 1));
    at_rest(&mut p, client);
}

#[test]
fn a_race_counts_as_one_of_the_origins_connections() {
    let mut config = site(vec![origin(&[V6, v4()])], false);
    config.upstreams[0].settings.connections_max = Some(2);
    let mut p = node(config);
    p.silent = true;
    let clients: Vec<u16> = (0..3).map(|_| p.connect(&get("/1"))).collect();
    wait(&mut p, 300, &mut |_, _| Act::Hold);
    let got: Vec<Vec<u16>> = clients.iter().map(|c| statuses(&mut p, *c)).collect();
    assert_eq!(got, [vec![], vec![], vec![503]], "two race, over four connections; there is no queue");
    for c in clients {
        p.client_resets(c);
    }
}

#[test]
fn the_origin_is_blamed_only_when_all_have_failed() {
    let mut config = site(vec![origin(&[V6, v4()])], false);
    config.upstreams[0].settings.outlier = Some(OutlierSettings { failures: 1, ejection_ns: 1_000 * MS });
    let mut p = node(config);
    p.ways.insert(V6, Way::Refuses);
    p.ways.insert(v4(), Way::Silent);
    // One has failed, and who wanted it leaves before the other has.
    let client = p.connect(&get("/1"));
    wait(&mut p, 50, &mut |_, _| Act::Hold);
    at_rest(&mut p, client);
    assert_eq!(count(&p, Ctr::OriginEjections), 0);
    p.ways.remove(&v4());
    let mut asked = 0;
    for n in 1..=5 {
        let client = p.connect(&get("/1"));
        p.settle(&mut hello(&mut asked));
        assert_eq!((statuses(&mut p, client), asked), (vec![200], n));
        p.client_resets(client);
        p.origin_resets_all();
        p.settle(&mut hello(&mut asked));
    }
    assert_eq!(count(&p, Ctr::OriginEjections), 0);
    p.refuses = true;
    let client = p.connect(&get("/1"));
    p.settle(&mut hello(&mut asked));
    assert_eq!((statuses(&mut p, client), count(&p, Ctr::OriginEjections)), (vec![502], 1));
    at_rest(&mut p, client);
}

#[test]
fn another_origin_is_tried_when_all_addresses_have_failed() {
    let other = IpAddr::from([10, 0, 0, 9]);
    let mut p = node(site(vec![origin(&[V6, v4()]), origin(&[other])], false));
    p.ways.insert(V6, Way::Refuses);
    p.ways.insert(v4(), Way::Refuses);
    let mut asked = 0;
    let start = p.now;
    let client = p.connect(&[get("/1"), get("/2")].concat());
    p.settle(&mut hello(&mut asked));
    assert_eq!((statuses(&mut p, client), asked), (vec![200, 200], 2));
    let to: Vec<IpAddr> = attempts(&p, start).into_iter().map(|(to, _)| to).collect();
    assert!(to.starts_with(&[V6, v4(), other]), "{to:?}");
    assert_eq!(count(&p, Ctr::OriginRetried), 1);
    at_rest(&mut p, client);
}
