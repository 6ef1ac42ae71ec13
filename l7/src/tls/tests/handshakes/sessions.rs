//! Sessions that are over or forgotten are counted.

use std::sync::Arc;

use dataplane::Ctr;
use rustls::time_provider::DefaultTimeProvider;

use super::super::support::*;
use super::{Core, limits};
use crate::tls::front::{Front, Tickets};
use crate::tls::store::SessionStore;
use crate::tls::tickets::{SharedTime, TicketSpec, Ticketer};

#[test]
fn who_comes_with_a_session_that_is_over_is_counted() {
    let authority = Authority::new("ca");
    for key_type in [KeyType::Ecdsa, KeyType::Rsa] {
        let time = Arc::new(SharedTime::default());
        time.set(1_000);
        let mut spec = spec(vec![entry(&["*"], vec![authority.certified(&["a.test"], key_type)])]);
        let keys = TicketSpec { period_s: 3_600, lifetime_s: 60, secret: None };
        let producer = Ticketer::new(keys, 1_000).unwrap();
        (spec.time, spec.tickets) = (time.clone(), Some(Tickets { producer, sent: 2, kept: None }));
        let mut core = Core::with_helpers(Front::new(spec).unwrap(), limits(4), 4);
        for (n, tls13) in [(0, true), (1, false)] {
            let config = Arc::new(client_config(&authority, tls13));
            time.set(1_000);
            for (now, resumed, over) in [(1_000, false, n), (1_059, true, n), (1_060, false, n + 1)] {
                time.set(now);
                core.shake(1, &mut client(&config, "a.test"), b"").unwrap();
                assert_eq!(core.flow(1).done.take().unwrap().resumed, resumed, "{key_type:?} at {now}");
                assert_eq!(core.counters.get(Ctr::TlsSessionOver), over);
            }
        }
    }
}

#[test]
fn sessions_that_are_forgotten_are_counted() {
    let authority = Authority::new("ca");
    let mut entry = entry(&["*"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)]);
    entry.early_data_bytes = 100;
    let mut spec = spec(vec![entry]);
    let kept = SessionStore::new(8, 3600, Arc::new(DefaultTimeProvider));
    assert_eq!(kept.capacity(), 8);
    spec.tickets = Some(Tickets { kept: Some(kept), ..super::super::early::tickets() });
    let mut core = Core::new(Front::new(spec).unwrap(), limits(4));
    // Two for each client.
    for (flow, evicted) in (0..6).zip([0, 0, 0, 0, 2, 4]) {
        let config = Arc::new(client_config(&authority, true));
        core.shake(flow, &mut client(&config, "a.test"), b"").unwrap();
        assert_eq!(core.counters.get(Ctr::TlsEarlyEvicted), evicted);
    }
}
