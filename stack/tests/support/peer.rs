//! A host with smoltcp's own stack: the independent peer.
//!
//! Its rings stay below 64 KiB (DESIGN.md 11: at and above that, smoltcp 0.14 panics on out-of-order data).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use dataplane::Time;
use dataplane::port::mem::WireEnd;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, IpListenEndpoint, TcpPacket};

use super::own::Setup;
use super::{Finish, Host, Outcome, Plan, Reading, byte_at};

/// Bytes of each ring.
pub const RING: usize = 60_000;

struct Wire(WireEnd, usize, Deafness);

struct Rx(Vec<u8>);
struct Tx<'a>(&'a WireEnd, &'a mut Deafness);

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let r = f(&mut frame);
        self.1.sent(&frame);
        assert!(self.0.send(&frame), "the wire was said to have room");
        r
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        if !self.0.can_send() {
            return None;
        }
        let frame = self.0.recv_with(|f| f.to_vec())?;
        self.2.came(&frame);
        Some((Rx(frame), Tx(&self.0, &mut self.2)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        self.0.can_send().then_some(Tx(&self.0, &mut self.2))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut c = DeviceCapabilities::default();
        c.medium = Medium::Ethernet;
        c.max_transmission_unit = self.1 + 14;
        c
    }
}

/// A defect of smoltcp 0.14: in LAST-ACK it throws away an ACK that acknowledges nothing new (`process` answers it by a
/// challenge ACK and returns), and with it the window that it opens. When what it had sent last before the window closed
/// was lost, it probes behind the hole for ever, which no ACK can answer so that it notices. This recognises it: by the
/// ACK that opened a closed window, and the probes that went on all the same.
#[derive(Default)]
struct Deafness {
    /// By smoltcp's port.
    seen: HashMap<u16, Seen>,
}

#[derive(Default)]
struct Seen {
    /// The last ACK and window that came.
    ack: u32,
    window: u16,
    /// The number of the last probe, and how often it was sent while the window was open and the ACK stayed.
    probe: u32,
    probes: u32,
}

/// So many probes into a window that is open say that it is not known to be.
const PROBES_DEAF: u32 = 5;

impl Deafness {
    fn tcp(frame: &[u8]) -> Option<TcpPacket<&[u8]>> {
        let at = match frame.get(12..14)? {
            [8, 0] if frame.get(23) == Some(&6) => 34,
            [0x86, 0xdd] if frame.get(20) == Some(&6) => 54,
            _ => return None,
        };
        TcpPacket::new_checked(frame.get(at..)?).ok()
    }

    fn came(&mut self, frame: &[u8]) {
        let Some(t) = Deafness::tcp(frame) else { return };
        let (ack, window) = (t.ack_number().0 as u32, t.window_len());
        let s = self.seen.entry(t.dst_port()).or_default();
        if s.ack != ack {
            s.probes = 0;
        }
        (s.ack, s.window) = (ack, window);
    }

    fn sent(&mut self, frame: &[u8]) {
        let Some(t) = Deafness::tcp(frame) else { return };
        if let Some(s) = self.seen.get_mut(&t.src_port())
            && t.payload().len() == 1
        {
            let seq = t.seq_number().0 as u32;
            s.probes = if s.window > 0 && s.probe == seq { s.probes + 1 } else { 0 };
            s.probe = seq;
        }
    }
}

struct Conn {
    socket: SocketHandle,
    plan: Plan,
    out: Outcome,
    started: Time,
    listens: Option<u16>,
}

pub struct PeerHost {
    device: Wire,
    iface: Interface,
    sockets: SocketSet<'static>,
    conns: Vec<Conn>,
    next_port: u16,
    wake: Time,
}

fn instant(t: Time) -> Instant {
    Instant::from_micros((t.0 / 1000) as i64)
}

impl PeerHost {
    pub fn new(setup: &Setup, end: WireEnd, seed: u64) -> PeerHost {
        let mut device = Wire(end, setup.mtu.into(), Deafness::default());
        let mut config = Config::new(EthernetAddress(setup.mac).into());
        config.random_seed = seed;
        let mut iface = Interface::new(config, &mut device, Instant::ZERO);
        iface.update_ip_addrs(|a| {
            for (ip, prefix) in &setup.addresses {
                a.push(IpCidr::new((*ip).into(), *prefix)).unwrap();
            }
        });
        PeerHost {
            device,
            iface,
            sockets: SocketSet::new(vec![]),
            conns: vec![],
            next_port: 50_000 + (seed % 1000) as u16,
            wake: Time::NEVER,
        }
    }

    fn socket(&mut self) -> SocketHandle {
        let ring = || tcp::SocketBuffer::new(vec![0; RING]);
        let mut s = tcp::Socket::new(ring(), ring());
        s.set_nagle_enabled(false);
        s.set_timeout(None);
        self.sockets.add(s)
    }

    fn add(&mut self, socket: SocketHandle, plan: Plan, now: Time, listens: Option<u16>) {
        self.conns.push(Conn { socket, plan, out: Outcome::default(), started: now, listens });
    }

    /// Takes one connection on `port`.
    pub fn listen(&mut self, port: u16, plan: Plan) {
        let h = self.socket();
        self.sockets.get_mut::<tcp::Socket>(h).listen(IpListenEndpoint::from(port)).unwrap();
        self.add(h, plan, Time(0), Some(port));
    }

    pub fn connect(&mut self, to: SocketAddr, plan: Plan, now: Time) {
        let h = self.socket();
        self.next_port += 1;
        let remote: (smoltcp::wire::IpAddress, u16) = (IpAddr::into(to.ip()), to.port());
        let s = self.sockets.get_mut::<tcp::Socket>(h);
        s.connect(self.iface.context(), remote, self.next_port).unwrap();
        self.add(h, plan, now, None);
    }

    /// The socket of connection `n`.
    pub fn tcp(&mut self, n: usize) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.conns[n].socket)
    }

    /// Whether a connection hangs on smoltcp's defect in LAST-ACK (see [`Deafness`]).
    pub fn is_deaf(&self) -> bool {
        self.conns.iter().filter(|c| c.out.closed.is_none()).any(|c| {
            let s = self.sockets.get::<tcp::Socket>(c.socket);
            let port = s.local_endpoint().map_or(0, |e| e.port);
            s.state() == tcp::State::LastAck
                && s.send_queue() > 0
                && self.device.2.seen.get(&port).is_some_and(|s| s.probes >= PROBES_DEAF)
        })
    }

    fn pump(&mut self, now: Time) -> bool {
        let mut moved = false;
        if now >= self.wake {
            self.wake = Time::NEVER;
        }
        for c in &mut self.conns {
            if c.out.closed.is_some() {
                continue;
            }
            let s = self.sockets.get_mut::<tcp::Socket>(c.socket);
            let before = (c.out.got, c.out.sent, c.out.fin);
            c.out.opened |= s.may_send() || s.may_recv();
            let allowed = match c.plan.reading {
                Reading::Eager => u64::MAX,
                Reading::After(t) if now >= t => u64::MAX,
                Reading::After(t) => {
                    self.wake = self.wake.min(t);
                    0
                }
                Reading::Rate(n) => {
                    self.wake = self.wake.min(now.plus_ns(1_000_000));
                    now.since_ns(c.started) / 1_000_000 * n
                }
            };
            while s.can_recv() && c.out.got < allowed {
                let (plan, out) = (&c.plan, &mut c.out);
                s.recv(|b| {
                    let n = b.len().min((allowed - out.got) as usize);
                    out.take(plan, &b[..n]);
                    (n, ())
                })
                .unwrap();
            }
            // Said once everything has been read, if a FIN came.
            c.out.fin |= matches!(s.recv(|_| (0, ())), Err(tcp::RecvError::Finished));
            while s.can_send() && c.out.sent < c.plan.send {
                let left = (c.plan.send - c.out.sent).min(c.plan.chunk as u64) as usize;
                let (from, seed) = (c.out.sent, c.plan.seed);
                let n = s
                    .send(|b| {
                        let n = b.len().min(left);
                        for (i, b) in b[..n].iter_mut().enumerate() {
                            *b = byte_at(seed, from + i as u64);
                        }
                        (n, n)
                    })
                    .unwrap();
                c.out.sent += n as u64;
            }
            let all_sent = c.out.sent == c.plan.send && c.out.opened;
            match c.plan.finish {
                Finish::AfterSending | Finish::Orphan if all_sent => s.close(),
                Finish::AfterPeer if all_sent && c.out.fin => s.close(),
                Finish::Abort(at) if c.out.opened && c.out.got >= at => s.abort(),
                _ => {}
            }
            let over = matches!(s.state(), tcp::State::Closed | tcp::State::TimeWait);
            let never = c.listens.is_some() && !c.out.opened;
            if over && !never && !s.can_recv() {
                c.out.closed = Some(None);
                moved = true;
            }
            moved |= before != (c.out.got, c.out.sent, c.out.fin);
        }
        moved
    }
}

impl Host for PeerHost {
    fn pass(&mut self, now: Time) -> bool {
        let before = self.device.0.has_rx();
        let polled = self.iface.poll(instant(now), &mut self.device, &mut self.sockets);
        let moved = self.pump(now);
        before | moved | (polled == smoltcp::iface::PollResult::SocketStateChanged)
    }

    fn next_deadline(&mut self, now: Time) -> Option<Time> {
        // Its clock counts microseconds: the next one that is not before ours.
        let at = self.iface.poll_at(instant(now), &self.sockets);
        let at = at.map(|i| Time((i.total_micros().max(0) as u64) * 1000).max(now.plus_ns(1000)));
        let wake = (self.wake != Time::NEVER).then_some(self.wake);
        [at, wake].into_iter().flatten().min()
    }

    fn is_done(&self) -> bool {
        self.conns.iter().all(|c| c.out.closed.is_some())
    }

    fn results(&self) -> Vec<(Plan, Outcome)> {
        self.conns.iter().map(|c| (c.plan.clone(), c.out.clone())).collect()
    }
}
