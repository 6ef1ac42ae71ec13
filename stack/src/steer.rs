//! Software steering: what a device without RSS that we can predict gives to the wrong core, and how it gets to the
//! right one by mail.
//!
//! ```text
//!  TCP, no connection here   ├─ to a port that is nobody's listener ─► the core that owns the port ([`owner`])
//!                            ├─ to a listener's port ─► the next core, until all have looked; the last one answers
//!                            └─ SYN, or a port that we never connect from ─► answered here (by the kernel, where it shares the port)
//!  ICMP error, no connection here ─► the same, by the port that it quotes
//!  ARP, ND                   ─► what was learned goes to all others as a note; only the core that got it answers
//! ```
//!
//! The ports of our own connections are shared out (`Tcp::connect` takes those that its core owns), so their packets
//! have one owner that everybody can name. Where the device has RSS that we can predict, the owner is the core of the queue
//! to which it brings the answers; should it not do as predicted, they find their way all the same, by mail, and
//! `steer.unpredicted` says how many connections came to another queue than they should. A client's connection lives where its SYN came, and the device keeps
//! sending its packets there; if it changes its mind all the same (its queues were counted anew), the packets find
//! their core by asking round.
//!
//! Whoever asks round is put off when the next core's mail is half full: made-up segments must not crowd out those
//! that have an owner. Such a segment is dropped, not answered: a RST would end a connection that another core may
//! have.
//!
//! Fragments are not steered: they are dropped wherever they come.

use std::sync::Arc;

use dataplane::buf::RxFlags;
use dataplane::mail::Post;
use dataplane::port::Mac;
use dataplane::rss::Rss;
use dataplane::{BURST_MAX, Burst, Ctr, Packet, Time, TxQueue};

use crate::Stack;
use crate::addr::{Addr, Tuple};
use crate::net::Net;
use crate::tcp::PortRole;

/// A letter with a frame.
const FRAME: u8 = 0;
/// A letter with a neighbour: address, MAC, and whether to make an entry.
const NEIGHBOUR: u8 = 1;
const NEIGHBOUR_BYTES: usize = 16 + 6 + 1;

/// One core's place among the node's cores.
#[derive(Clone)]
pub struct Steering {
    core: usize,
    post: Arc<Post>,
}

impl Steering {
    /// The place of `core`, counted from 0, among the cores that `post` joins.
    ///
    /// # Panics
    /// When there is no such core.
    pub fn new(core: usize, post: Arc<Post>) -> Steering {
        assert!(core < post.cores());
        Steering { core, post }
    }

    /// This core's number.
    pub fn core(&self) -> usize {
        self.core
    }

    /// How many cores there are.
    pub fn cores(&self) -> usize {
        self.post.cores()
    }

    /// Whether mail waits for this core.
    pub fn has_mail(&self) -> bool {
        self.post.waits(self.core)
    }

    /// Whom to give a packet whose connection is not here: `None` when nobody else could have it. `hops`: how many
    /// cores have looked already.
    fn next(&self, tuple: &Tuple, rss: Option<&Rss>, role: PortRole, hops: u8) -> Option<Next> {
        let cores = self.cores();
        if usize::from(hops) + 1 >= cores {
            return None;
        }
        if role == PortRole::Listeners {
            return Some(Next { core: (self.core + 1) % cores, asks: true });
        }
        if role != PortRole::Own || hops > 0 {
            return None;
        }
        let owner = owner(tuple, rss, cores);
        (owner != self.core).then_some(Next { core: owner, asks: false })
    }
}

/// The core whose connection it is, if we opened it: where the device's RSS can be predicted, that of the queue to which
/// it gives what comes back; else by the port alone.
#[inline]
pub fn owner(tuple: &Tuple, rss: Option<&Rss>, cores: usize) -> usize {
    match rss {
        // A core for each queue; a table that names others must not make us look for one that is not there.
        Some(rss) => usize::from(rss.queue(back(tuple, rss) ^ to_port(tuple, rss))) % cores,
        None => usize::from(tuple.local_port) % cores,
    }
}

/// The part of the hash of what comes back that does not depend on our port.
#[inline]
pub(crate) fn back(tuple: &Tuple, rss: &Rss) -> u32 {
    rss.part(tuple.remote.wire(), tuple.local.wire(), tuple.remote_port)
}

/// The part that does.
#[inline]
pub(crate) fn to_port(tuple: &Tuple, rss: &Rss) -> u32 {
    rss.of_port(!tuple.local.is_v4(), tuple.local_port)
}

/// The core that is to look next.
struct Next {
    core: usize,
    /// It is only asked; it need not have the connection.
    asks: bool,
}

impl Net {
    /// Gives a packet to the core that may have its connection, `tuple`. Gives what to count the packet as, or `None`
    /// when there is no such core: then it is this core's to answer.
    #[cold]
    pub(crate) fn hand_over(&mut self, p: &Packet, tuple: &Tuple, role: PortRole) -> Option<Ctr> {
        let s = self.steering.as_ref()?;
        let m = p.meta();
        let rss = self.ifaces[usize::from(m.port)].rss.as_deref();
        let next = s.next(tuple, rss, role, m.hops)?;
        if next.asks && s.post.is_crowded(next.core) {
            self.counters.inc(Ctr::MailFull);
            return Some(Ctr::DropMailFull);
        }
        let sent = s.post.send(next.core, |letter| {
            (letter.kind, letter.port, letter.hops) = (FRAME, m.port, m.hops + 1);
            letter.write(p.head())
        });
        self.counters.inc(if sent { Ctr::MailSent } else { Ctr::MailFull });
        Some(if sent { Ctr::RxHandedOver } else { Ctr::DropMailFull })
    }

    /// A client has opened a connection here: is this the core that was predicted? So the prediction is watched, once for
    /// each connection and never for each packet.
    #[inline]
    pub(crate) fn watch_prediction(&self, p: &Packet, tuple: &Tuple) {
        let (Some(s), m) = (&self.steering, p.meta()) else { return };
        let Some(rss) = self.ifaces[usize::from(m.port)].rss.as_deref() else { return };
        if m.hops == 0 {
            let as_predicted = owner(tuple, Some(rss), s.cores()) == s.core;
            self.counters.inc(if as_predicted { Ctr::SteerPredicted } else { Ctr::SteerUnpredicted });
        }
    }

    /// Tells all other cores of a neighbour. One whose mail is crowded learns it another time.
    pub(crate) fn tell_neighbour(&mut self, port: u8, addr: &Addr, mac: Mac, create: bool) {
        let Some(s) = &self.steering else { return };
        let mut text = [0; NEIGHBOUR_BYTES];
        text[..16].copy_from_slice(&addr.0);
        text[16..22].copy_from_slice(&mac);
        text[22] = create.into();
        for to in (0..s.cores()).filter(|to| *to != s.core) {
            let sent = !s.post.is_crowded(to)
                && s.post.send(to, |letter| {
                    (letter.kind, letter.port, letter.hops) = (NEIGHBOUR, port, 0);
                    letter.write(&text)
                });
            self.counters.inc(if sent { Ctr::MailSent } else { Ctr::MailFull });
        }
    }

    fn note(&mut self, port: u8, text: &[u8], tx: &mut [TxQueue], now: Time) {
        let Some(text) = text.first_chunk::<NEIGHBOUR_BYTES>() else { return };
        let (mut addr, mut mac) = ([0; 16], [0; 6]);
        addr.copy_from_slice(&text[..16]);
        mac.copy_from_slice(&text[16..22]);
        self.learn(port, &Addr(addr), mac, text[22] != 0, tx, now);
    }
}

impl Stack {
    /// Makes this stack one of several, each on a core of its own with a queue of the same devices. Before any
    /// connection.
    pub fn steer(&mut self, s: Steering) {
        self.tcp.share_ports(s.core as u32, s.cores() as u32);
        self.net.steering = Some(s);
    }

    /// Whether mail from other cores waits.
    #[inline]
    pub fn has_mail(&self) -> bool {
        self.net.steering.as_ref().is_some_and(Steering::has_mail)
    }

    /// Takes the mail from other cores, a burst at most. Once in a pass; gives whether there was any.
    #[inline]
    pub fn mail(&mut self, tx: &mut [TxQueue], now: Time) -> bool {
        let waits = self.has_mail();
        if waits {
            self.take_mail(tx, now);
        }
        waits
    }

    fn take_mail(&mut self, tx: &mut [TxQueue], now: Time) {
        let Some(Steering { core, post }) = self.net.steering.clone() else { return };
        let mut burst = Burst::new();
        let mut letters = 0;
        let (net, tcp, c) = (&mut self.net, &self.tcp, &self.counters);
        while letters < BURST_MAX {
            let taken = post.take(core, |letter| {
                if letter.kind == NEIGHBOUR {
                    net.note(letter.port, letter.text(), tx, now);
                    return;
                }
                c.inc(Ctr::RxTakenOver);
                let Some(mut p) = tcp.rx_pool().alloc() else { return c.inc(Ctr::DropPortNoBuffer) };
                if !p.append(letter.text()) {
                    return c.inc(Ctr::DropPortTooLong);
                }
                let m = p.meta_mut();
                (m.arrival, m.port, m.hops) = (now, letter.port, letter.hops);
                // The other core has verified them, or they needed no verification.
                m.flags.set(RxFlags::L3_CHECKSUM_OK | RxFlags::L4_CHECKSUM_OK);
                burst.push(p);
            });
            if taken.is_none() {
                break;
            }
            letters += 1;
        }
        self.counters.add(Ctr::MailReceived, letters as u64);
        if !burst.is_empty() {
            self.input(&mut burst, tx, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::Bells;

    fn tuple() -> Tuple {
        let addr = |last| Addr::v4(&[192, 0, 2, last]);
        Tuple { local: addr(1), remote: addr(9), local_port: 0, remote_port: 80 }
    }

    #[test]
    fn by_rss_the_owner_is_the_core_of_the_queue_that_answers_come_to() {
        let key: [u8; 40] = std::array::from_fn(|i| (i as u8).wrapping_mul(197) ^ 0x5c);
        let rss = Rss::new(&key, &dataplane::rss::even_table(128, 3)).unwrap();
        let post = Post::new(4, 64, Bells::new(3).unwrap());
        let mut of_core = [0; 3];
        for local_port in 32_768..=65_535 {
            let tuple = Tuple { local_port, ..tuple() };
            // As the device sees it: from the origin to us.
            let hash = rss.hash(tuple.remote.wire(), tuple.local.wire(), 80, local_port);
            let core = usize::from(rss.queue(hash));
            assert_eq!(owner(&tuple, Some(&rss), 3), core);
            of_core[core] += 1;
            let next = |at| Steering::new(at, Arc::clone(&post)).next(&tuple, Some(&rss), PortRole::Own, 0);
            assert!(next(core).is_none());
            assert_eq!(next((core + 1) % 3).map(|n| (n.core, n.asks)), Some((core, false)));
        }
        assert!(of_core.iter().all(|n| *n > 8_000), "{of_core:?}");
        // A table of more queues than there are cores.
        let wide = Rss::new(&key, &dataplane::rss::even_table(64, 64)).unwrap();
        assert!(owner(&Tuple { local_port: 40_000, ..tuple() }, Some(&wide), 3) < 3);
    }

    #[test]
    fn who_looks_next() {
        let post = Post::new(4, 64, Bells::new(3).unwrap());
        let next = |core, local_port, role, hops| {
            let tuple = Tuple { local_port, ..tuple() };
            Steering::new(core, Arc::clone(&post)).next(&tuple, None, role, hops).map(|n| (n.core, n.asks))
        };
        // 40_000 mod 3 is 1.
        use PortRole::{Listeners, Nobodys, Own};
        for (core, port, role, hops, want) in [
            (0, 40_000, Own, 0, Some((1, false))),
            (2, 40_000, Own, 0, Some((1, false))),
            (1, 40_000, Own, 0, None),     // Its own.
            (1, 40_000, Own, 1, None),     // The owner does not have it.
            (0, 40_000, Own, 1, None),     // Nobody sends it here; it would not go on.
            (0, 31_999, Nobodys, 0, None), // We never connect from there.
            (0, 80, Listeners, 0, Some((1, true))),
            (1, 80, Listeners, 1, Some((2, true))),
            (2, 80, Listeners, 2, None), // All have looked.
            (2, 80, Listeners, 0, Some((0, true))),
            (0, 40_000, Listeners, 0, Some((1, true))), // A listener's, though it would be another core's to connect from.
        ] {
            assert_eq!(next(core, port, role, hops), want, "core {core} port {port} hops {hops}");
        }
    }
}
