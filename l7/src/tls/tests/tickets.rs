use std::sync::Arc;

use rustls::ClientConfig;
use rustls::server::ProducesTickets;

use super::support::*;
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

/// A ticket sealed by one is opened by the other.
fn opens(sealed_by: &dyn ProducesTickets, opened_by: &dyn ProducesTickets) -> bool {
    let ticket = sealed_by.encrypt(b"a session").unwrap();
    let opened = opened_by.decrypt(&ticket);
    assert!(opened.is_none() || opened.as_deref() == Some(b"a session"));
    opened.is_some()
}

#[test]
fn keys_are_drawn_anew_and_erased_in_time() {
    let ticketer = Ticketer::new(spec_of(None), 1_050).unwrap();
    let bound = ticketer.bind(b"kind");
    assert_eq!((bound.lifetime(), bound.enabled()), (250, true));
    let ticket = bound.encrypt(b"a session").unwrap();
    assert!(!ticketer.rotate(1_099));
    assert_eq!(ticketer.next_rotation(1_099), 1_100);
    let mut opened_until = 0;
    for now in 1_100..1_600 {
        assert_eq!(ticketer.rotate(now), now % 100 == 0, "{now}");
        if bound.decrypt(&ticket).is_some() {
            opened_until = now;
        }
        assert!(opens(&*bound, &*bound));
        assert!(ticketer.keys() <= 4);
    }
    assert_eq!(opened_until, 1_399, "it was good for its lifetime, and not for more than a period longer");
    // A clock that is set back a little changes nothing.
    assert!(!ticketer.rotate(1_450));
    assert!(opens(&*bound, &*bound));
    assert!(!opens(&*bound, &*ticketer.bind(b"another kind")));
    let other = Ticketer::new(spec_of(None), 1_050).unwrap();
    assert!(!opens(&*bound, &*other.bind(b"kind")));
}

#[test]
fn nodes_with_one_secret_open_each_others_tickets() {
    let (secret, old) = ([7; 32], [8; 48]);
    let make = |secret: &[u8], now| Ticketer::new(spec_of(Some(secret)), now).unwrap().bind(b"kind");
    let here = make(&secret, 1_099);
    assert!(opens(&*here, &*make(&secret, 1_099)));
    assert!(opens(&*here, &*make(&secret, 1_101)) && opens(&*make(&secret, 1_101), &*here), "clocks differ");
    assert!(opens(&*here, &*make(&secret, 1_349)));
    assert!(!opens(&*here, &*make(&secret, 1_400)));
    assert!(!opens(&*here, &*make(&old, 1_099)));
}

/// The secret that was replaced opens what it has sealed, and nothing that is sealed by it later; and then it is gone.
#[test]
fn a_secret_is_replaced() {
    let make = |secret: &[u8], now| Ticketer::new(spec_of(Some(secret)), now).unwrap();
    let stolen = make(&[8; 48], 1_050);
    let before = stolen.bind(b"kind").encrypt(b"a session").unwrap();
    let here = Ticketer::instead_of(&stolen, spec_of(Some(&[7; 32])), 1_099).unwrap();
    let bound = here.bind(b"kind");
    assert!(opens(&*bound, &*bound) && opens(&*bound, &*make(&[7; 32], 1_099).bind(b"kind")));
    assert!(!opens(&*bound, &*stolen.bind(b"kind")));
    assert_eq!(bound.decrypt(&before).as_deref(), Some(&b"a session"[..]));
    // Whoever has it, and goes on with the periods to come, gets nowhere; and with the old ones not for long.
    for now in [1_100, 1_150, 1_250] {
        here.rotate(now);
        assert!(!opens(&*make(&[8; 48], now).bind(b"kind"), &*bound), "{now}");
        assert!(bound.decrypt(&before).is_some());
    }
    // And replaced again: both are remembered.
    let again = Ticketer::instead_of(&here, spec_of(Some(&[6; 32])), 1_260).unwrap();
    let between = bound.encrypt(b"a session").unwrap();
    assert!([&before, &between].iter().all(|t| again.bind(b"kind").decrypt(t).is_some()));
    assert!(!here.rotate(1_299) && here.rotate(1_349));
    assert!(bound.decrypt(&before).is_none() && bound.decrypt(&between).is_some());
    again.rotate(1_509);
    assert!(again.bind(b"kind").decrypt(&between).is_some());
    again.rotate(1_510);
    assert!(again.bind(b"kind").decrypt(&between).is_none());
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
    let bound = ticketer.bind(b"kind");
    bound.encrypt(b"x").unwrap();
    let before = ticketer.set_is_kept();
    assert!(before());
    ticketer.rotate(5_000);
    assert!(!before(), "nothing was asked of this thread since");
}

#[test]
fn what_is_no_ticket_does_not_open() {
    let bound = Ticketer::new(spec_of(None), 1_050).unwrap().bind(b"kind");
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
    let bound = ticketer.bind(b"kind");
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
