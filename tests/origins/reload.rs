//! A config that takes more than a core has is taken nevertheless: no core refuses what another has taken.

use dataplane::Ctr;
use l7::proxy::{Answer, HEAD_CELL_BYTES, Io, OriginTimeouts, Program, ProxyConfig};
use l7::tls::Conns;

use crate::rig::{MS, at_rest, count, get, hello, node, origin, site, statuses, v4};
use crate::support::peers::{Act, Peers};

/// A reload while the node runs.
fn swap(p: &mut Peers, config: ProxyConfig) {
    let (now, pipeline) = (p.now, &mut p.cores[0].pipeline);
    pipeline.proxy.swap(
        Program::new(config),
        &mut Io {
            tcp: Conns { tcp: &mut pipeline.stack.tcp, tls: &mut pipeline.tls },
            net: &pipeline.stack.net,
            now,
        },
    );
}

#[test]
fn a_core_takes_what_it_has_no_cell_for() {
    let mut p = node(site(vec![origin(&[v4()])], false));
    let mut asked = 0;
    let client = p.connect(&get("/1"));
    p.settle(&mut hello(&mut asked));
    let mut config = site(vec![origin(&[v4()])], false);
    let ns = 1_000 * MS;
    let timeouts = OriginTimeouts { connect_ns: ns, first_byte_ns: ns, idle_ns: ns };
    config.add_site(&["large.lab"], Answer::Stub(vec![b'x'; HEAD_CELL_BYTES as usize + 1]), timeouts);
    config.add_site(&["small.lab"], Answer::Stub(vec![b'x'; 100]), timeouts);
    swap(&mut p, config);
    for host in ["large.lab", "small.lab", "site.lab"] {
        p.client_sends(client, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        p.settle(&mut hello(&mut asked));
    }
    assert_eq!(statuses(&mut p, client), [200, 503, 200, 200]);
    assert_eq!(count(&p, Ctr::PoolPayloadEmpty), 1);
    at_rest(&mut p, client);
}

/// A request that came while another of its connection was under way begins with the config of its own time, whatever the
/// one before it was told: that one's route may not be there any more.
#[test]
fn a_request_that_waited_knows_nothing_of_the_old_routes() {
    let two_routes = |last: &[&str]| {
        let mut config = site(vec![origin(&[v4()])], false);
        config.sites[0].hosts = vec!["first.lab".to_owned()];
        let ns = 5_000 * MS;
        let timeouts = OriginTimeouts { connect_ns: ns, first_byte_ns: ns, idle_ns: ns };
        config.add_site(last, Answer::Upstream(0), timeouts);
        config
    };
    let mut p = node(two_routes(&["site.lab"]));
    let mut asked = Vec::new();
    let client = p.connect(&[get("/1"), get("/2")].concat());
    p.settle(&mut |a, _| {
        asked.push(a.0);
        Act::Hold
    });
    let mut config = two_routes(&["other.lab"]);
    config.sites.pop();
    config.routes.pop();
    swap(&mut p, config);
    p.origin_sends(asked[0], b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    p.settle(&mut |_, _| Act::Hold);
    assert_eq!(asked.len(), 1);
    assert_eq!(statuses(&mut p, client), [200, 421]);
    at_rest(&mut p, client);
}
