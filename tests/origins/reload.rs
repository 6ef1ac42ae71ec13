//! A config that takes more than a core has is taken nevertheless: no core refuses what another has taken.

use std::sync::Arc;

use dataplane::Ctr;
use l7::proxy::{Answer, HEAD_CELL_BYTES, Io, OLD_PLANS_MAX, OriginTimeouts, Program, ProxyConfig};
use l7::tls::front::Proof;
use l7::tls::{Conns, Front};

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

/// Certificates are renewed, and proved by a path, as often as it may be: that is no other plan for the requests under way.
#[test]
fn what_is_shown_changes_under_long_answers() {
    let mut p = node(site(vec![origin(&[v4()])], false));
    let (mut long, mut asked) = (Vec::new(), Vec::new());
    for n in 0..3 * OLD_PLANS_MAX {
        let name = if n % 2 == 0 { "site.lab" } else { "other.lab" };
        let proof = Proof { name: name.to_owned(), token: format!("t{n}"), answer: b"proof".to_vec() };
        let front = Front::empty().proving(vec![proof]);
        p.cores[0].pipeline.proxy.present(Arc::new(front));
        long.push(p.connect(&get("/long")));
        p.settle(&mut |a, _| {
            asked.push(a.0);
            Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no".to_vec(), false)
        });
        // The origin answers 404 to whatever is not the proof's.
        for (path, status) in
            [(format!("t{n}"), [404, 200][n % 2 ^ 1]), (format!("t{n}x"), 404), (String::new(), 404)]
        {
            let client = p.connect(&get(&format!("/.well-known/acme-challenge/{path}")));
            p.settle(&mut |_, _| Act::Send(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_vec(), false));
            assert_eq!(statuses(&mut p, client), [status], "{name} {path}");
            p.client_resets(client);
        }
    }
    for port in asked {
        p.origin_sends(port, b"k");
    }
    p.settle(&mut |_, _| Act::Hold);
    for client in long {
        assert_eq!(statuses(&mut p, client), [200]);
        p.client_resets(client);
    }
    assert_eq!((p.cores[0].pipeline.proxy.plans(), count(&p, Ctr::HttpPlanEnded)), (1, 0));
}
