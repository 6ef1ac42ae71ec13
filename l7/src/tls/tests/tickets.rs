use std::sync::Arc;

use rustls::ClientConfig;
use rustls::server::ProducesTickets;

use super::support::*;
use crate::tls::age::Past;
use crate::tls::front::{ClientAuth, Front, Tickets};
use crate::tls::handshake::{Established, Failure, Handshake};
use crate::tls::hello::{Peek, peek};
use crate::tls::keys::Version;
use crate::tls::tickets::{SharedTime, TicketError, TicketSpec, Ticketer};

fn front(authority: &Authority, ticketer: &Arc<Ticketer>, auth: ClientAuth) -> Front {
    let mut entry = entry(&["*"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)]);
    entry.client_auth = auth;
    let mut spec = spec(vec![entry]);
    spec.tickets = Some(Tickets { producer: ticketer.clone(), sent: 2, kept: None });
    Front::new(spec).unwrap()
}

fn shake(front: &Front, config: &Arc<ClientConfig>) -> Result<Established, Failure> {
    let mut client = client(config, "a.test");
    let hello = flush(&mut client);
    let mut joined = Vec::new();
    let Ok(Peek::Hello(seen)) = peek(&hello, &mut joined) else { panic!("a stock hello") };
    let resumes = seen.resumes;
    let mut ours = Handshake::server(front.choose(&seen).unwrap().config).unwrap();
    ours.give(&hello);
    let established = drive(ours, &mut client, 1 << 20, b"")?;
    assert!(resumes || !established.resumed);
    Ok(established)
}

/// A clock that stands at `now`.
fn time(now: u64) -> Arc<SharedTime> {
    let time = SharedTime::default();
    time.set(now);
    Arc::new(time)
}

fn spec_of(secret: Option<&[u8]>) -> TicketSpec {
    TicketSpec { period_s: 100, lifetime_s: 250, secret: secret.map(<[u8]>::to_vec) }
}

#[test]
fn a_session_is_resumed_by_whoever_has_the_keys() {
    let authority = Authority::new("ca");
    let ticketer = Ticketer::new(TicketSpec::default(), 1_000_000).unwrap();
    let fronts = [(); 2].map(|()| front(&authority, &ticketer, ClientAuth::None));
    for (tls13, version) in [(true, Version::Tls13), (false, Version::Tls12)] {
        let config = Arc::new(client_config(&authority, tls13));
        let first = shake(&fronts[0], &config).unwrap();
        assert!(!first.resumed);
        assert_eq!(first.keys.tx.seq, 1, "the tickets, or Finished, were a record");
        let second = shake(&fronts[1], &config).unwrap();
        assert!(second.resumed && second.keys.version == version);
    }
}

#[test]
fn a_ticket_of_another_kind_of_session_is_none() {
    let (authority, people) = (Authority::new("ca"), Authority::new("people"));
    let ticketer = Ticketer::new(TicketSpec::default(), 1_000_000).unwrap();
    let open = front(&authority, &ticketer, ClientAuth::None);
    let closed = front(&authority, &ticketer, ClientAuth::Required(people.roots()));
    for tls13 in [true, false] {
        let config = Arc::new(client_config(&authority, tls13));
        shake(&open, &config).unwrap();
        assert!(shake(&closed, &config).is_err(), "nobody gets in by a session that was let in elsewhere");
    }
}

#[test]
fn a_resumed_session_knows_its_client() {
    let (authority, people) = (Authority::new("ca"), Authority::new("people"));
    let ticketer = Ticketer::new(TicketSpec::default(), 1_000_000).unwrap();
    let closed = front(&authority, &ticketer, ClientAuth::Required(people.roots()));
    for tls13 in [true, false] {
        let (chain, key) = people.issue(&["somebody.test"], KeyType::Ecdsa);
        let mut config = client_config(&authority, tls13);
        let certified = crate::tls::front::certified(chain, key, None, config.crypto_provider()).unwrap();
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
        let config = Arc::new(config);
        let first = shake(&closed, &config).unwrap();
        let second = shake(&closed, &config).unwrap();
        assert!(!first.resumed && second.resumed);
        assert_eq!((first.peer.len(), &first.peer), (1, &second.peer));
    }
}

/// The ticket of a full handshake.
fn sealed(by: &dyn ProducesTickets) -> Vec<u8> {
    Past::leave();
    by.encrypt(b"a session").unwrap()
}

/// A ticket sealed by one is opened by the other.
fn opens(sealed_by: &dyn ProducesTickets, opened_by: &dyn ProducesTickets) -> bool {
    let ticket = sealed(sealed_by);
    let opened = opened_by.decrypt(&ticket);
    assert!(opened.is_none() || opened.as_deref() == Some(b"a session"));
    opened.is_some()
}

#[test]
fn keys_are_drawn_anew_and_erased_in_time() {
    let (ticketer, time) = (Ticketer::new(spec_of(None), 1_050).unwrap(), time(1_050));
    let bound = ticketer.bind(b"kind", time.clone());
    assert_eq!((bound.lifetime(), bound.enabled()), (250, true));
    let ticket = sealed(&*bound);
    time.set(1_099);
    assert!(!ticketer.rotate(1_099));
    let last = sealed(&*bound);
    let mut opened_until = [0; 2];
    for now in 1_100..1_600 {
        time.set(now);
        // One that ends with the last ticket of its last second, between two that begin.
        let changes = now % 100 == 0 || (now % 100 == 50 && now >= 1_350);
        assert_eq!(ticketer.rotate(now), changes, "{now}");
        for (ticket, until) in [&ticket, &last].into_iter().zip(&mut opened_until) {
            if bound.decrypt(ticket).is_some() {
                *until = now;
            }
        }
        assert!(opens(&*bound, &*bound));
        assert!(ticketer.keys() <= 4);
    }
    assert_eq!(opened_until, [1_299, 1_348], "each was good for its lifetime, to the second");
    // A clock that is set back a little changes nothing.
    let ticket = sealed(&*bound);
    time.set(1_540);
    assert!(!ticketer.rotate(1_540));
    assert!(opens(&*bound, &*bound) && bound.decrypt(&ticket).is_some());
    // Of what is sealed after the next period nobody can say how old it is.
    time.set(1_498);
    assert!(opens(&*bound, &*bound) && bound.decrypt(&ticket).is_none());
    assert!(!opens(&*bound, &*ticketer.bind(b"another kind", time.clone())));
    let other = Ticketer::new(spec_of(None), 1_050).unwrap();
    assert!(!opens(&*bound, &*other.bind(b"kind", time.clone())));
    // Where there is no time nothing is sealed, and nothing opened.
    let ticket = sealed(&*bound);
    time.set(0);
    Past::leave();
    assert_eq!((bound.encrypt(b"a session"), bound.decrypt(&ticket), bound.lifetime()), (None, None, 0));
}

/// A key whose last ticket is over is of no use to us, and of none to a thief.
#[test]
fn a_key_is_erased_with_its_last_ticket() {
    for (secret, future) in [(None, 0), (Some(&[7; 32][..]), 1)] {
        for (period_s, lifetime_s) in [(100, 250), (100, 100), (100, 30), (1_000, 60), (100, 2_400)] {
            let spec = TicketSpec { period_s, lifetime_s, secret: secret.map(<[u8]>::to_vec) };
            let start = 100 * period_s;
            let ticketer = Ticketer::new(spec, start).unwrap();
            for now in start..start + 4 * period_s + lifetime_s {
                ticketer.rotate(now);
                // Drawn ones are as many as have been since the start.
                let oldest = ((now - lifetime_s) / period_s).max(if future == 0 { 100 } else { 0 });
                let keys = now / period_s - oldest + 1 + future;
                assert_eq!(ticketer.keys() as u64, keys, "{period_s}, {lifetime_s}: {now}");
            }
        }
    }
}

#[test]
fn nodes_with_one_secret_open_each_others_tickets() {
    let (secret, old) = ([7; 32], [8; 48]);
    let make =
        |secret: &[u8], now| Ticketer::new(spec_of(Some(secret)), now).unwrap().bind(b"kind", time(now));
    let here = make(&secret, 1_099);
    assert!(opens(&*here, &*make(&secret, 1_099)));
    assert!(opens(&*here, &*make(&secret, 1_101)) && opens(&*make(&secret, 1_101), &*here), "clocks differ");
    assert!(opens(&*here, &*make(&secret, 1_348)));
    assert!(!opens(&*here, &*make(&secret, 1_349)));
    assert!(!opens(&*here, &*make(&old, 1_099)));
}

/// The secret that was replaced opens what it has sealed, and nothing that is sealed by it later; and then it is gone.
#[test]
fn a_secret_is_replaced() {
    let time = time(1_050);
    let make = |secret: &[u8], now| Ticketer::new(spec_of(Some(secret)), now).unwrap();
    let bind = |ticketer: &Arc<Ticketer>| ticketer.bind(b"kind", time.clone());
    let stolen = make(&[8; 48], 1_050);
    let before = sealed(&*bind(&stolen));
    time.set(1_099);
    let last = sealed(&*bind(&stolen));
    let here = Ticketer::instead_of(&stolen, spec_of(Some(&[7; 32])), 1_099).unwrap();
    let bound = bind(&here);
    assert!(opens(&*bound, &*bound) && opens(&*bound, &*bind(&make(&[7; 32], 1_099))));
    assert!(!opens(&*bound, &*bind(&stolen)));
    assert_eq!(bound.decrypt(&before).as_deref(), Some(&b"a session"[..]));
    // Whoever has it, and goes on with the periods to come, gets nowhere; and with the old ones not for long.
    for now in [1_100, 1_150, 1_250] {
        time.set(now);
        here.rotate(now);
        assert!(!opens(&*bind(&make(&[8; 48], now)), &*bound), "{now}");
        assert!(bound.decrypt(&before).is_some());
    }
    // And replaced again: both are remembered.
    time.set(1_260);
    let again = Ticketer::instead_of(&here, spec_of(Some(&[6; 32])), 1_260).unwrap();
    let between = sealed(&*bound);
    assert!([&before, &last, &between].iter().all(|t| bind(&again).decrypt(t).is_some()));
    assert!(!here.rotate(1_299));
    // Somebody makes himself one with the old key, to be good for long.
    let forged = sealed(&*bind(&stolen));
    assert!(bound.decrypt(&forged).is_some());
    time.set(1_348);
    assert!(bound.decrypt(&before).is_none() && bound.decrypt(&last).is_some());
    time.set(1_349);
    assert!(here.rotate(1_349));
    assert!([&last, &forged].iter().all(|t| bound.decrypt(t).is_none()) && bound.decrypt(&between).is_some());
    time.set(1_509);
    again.rotate(1_509);
    assert!(bind(&again).decrypt(&between).is_some());
    time.set(1_510);
    assert!(bind(&again).decrypt(&between).is_none());
    again.rotate(1_510);
    assert_eq!(again.keys(), make(&[6; 32], 1_510).keys());
}

/// Keys from a file could make a ticket of any client.
#[test]
fn sessions_of_clients_with_certificates_are_in_no_shared_tickets() {
    let (authority, people) = (Authority::new("ca"), Authority::new("people"));
    for (shared, auth, resumed) in [
        (false, ClientAuth::Optional(people.roots()), true),
        (true, ClientAuth::Optional(people.roots()), false),
        (true, ClientAuth::None, true),
    ] {
        let spec = TicketSpec { secret: shared.then(|| vec![1; 32]), ..TicketSpec::default() };
        let front = front(&authority, &Ticketer::new(spec, 1_000_000).unwrap(), auth);
        for tls13 in [true, false] {
            let config = Arc::new(client_config(&authority, tls13));
            assert!(!shake(&front, &config).unwrap().resumed);
            assert_eq!(shake(&front, &config).unwrap().resumed, resumed);
        }
    }
}

#[test]
fn keys_that_are_erased_are_erased_for_threads_that_sleep() {
    let ticketer = Ticketer::new(spec_of(None), 1_050).unwrap();
    let bound = ticketer.bind(b"kind", time(1_050));
    bound.encrypt(b"x").unwrap();
    let before = ticketer.set_is_kept();
    assert!(before());
    ticketer.rotate(5_000);
    assert!(!before(), "nothing was asked of this thread since");
}

#[test]
fn what_is_no_ticket_does_not_open() {
    let bound = Ticketer::new(spec_of(None), 1_050).unwrap().bind(b"kind", time(1_050));
    let ticket = bound.encrypt(b"a session").unwrap();
    for at in 0..ticket.len() {
        let mut changed = ticket.clone();
        changed[at] ^= 1;
        assert!(bound.decrypt(&changed).is_none());
        assert!(bound.decrypt(&ticket[..at]).is_none());
    }
    assert!(bound.decrypt(&[&ticket[..], &vec![0; 1 << 20]].concat()).is_none());
    assert!(bound.encrypt(&vec![0; 1 << 20]).is_none());
    assert_eq!(bound.decrypt(&bound.encrypt(b"").unwrap()).as_deref(), Some(&b""[..]));
}

#[test]
fn threads_follow() {
    let ticketer = Ticketer::new(spec_of(None), 1_050).unwrap();
    let bound = ticketer.bind(b"kind", time(1_050));
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let (answer, answers) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let bound = &bound;
        scope.spawn(move || {
            for () in asked {
                answer.send(bound.encrypt(b"x").unwrap()).unwrap();
            }
        });
        let mut names = Vec::new();
        for now in [1_050, 1_050, 1_150] {
            ticketer.rotate(now);
            ask.send(()).unwrap();
            names.push(answers.recv().unwrap()[..16].to_vec());
        }
        drop(ask);
        assert!(names[0] == names[1] && names[1] != names[2]);
    });
}

#[test]
fn a_spec_that_cannot_be() {
    let error = |spec| Ticketer::new(spec, 0).unwrap_err();
    assert_eq!(error(spec_of(Some(&[0; 31]))), TicketError::ShortSecret);
    let times = |period_s, lifetime_s| TicketSpec { period_s, lifetime_s, secret: None };
    for (period, lifetime) in [(0, 1), (1, 0), (1, 25), (86_400, 7 * 86_400 + 1)] {
        assert_eq!(error(times(period, lifetime)), TicketError::Times);
        assert!(!error(times(period, lifetime)).to_string().is_empty());
    }
}

#[test]
fn the_time_is_what_was_said() {
    use rustls::time_provider::TimeProvider;
    let time = SharedTime::default();
    assert_eq!(time.current_time(), None);
    time.set(1_000);
    assert_eq!(time.current_time().unwrap().as_secs(), 1_000);
}
