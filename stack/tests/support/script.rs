//! Segments in, segments out, line by line: our stack against a peer that is a script.
//!
//! ```text
//!  < SA 0 ack 1 win 1000 mss 1000 ws 7    the peer sends; sequence numbers are relative to each side's ISN
//!  < A 1:11 ack 1                         ten bytes of data
//!  <+ A 1:11 ack 1                        the same, in one burst with what comes next
//!  < AU 1:11 ack 1 ce                     urgent; marked by a router. `> … ect`: sent as able to be (`notect`: not)
//!  < S 0 sackok ts 500 0                  with SACK permitted, and timestamps: our own are ms since the script began
//!  > A 1 ack 11 sack 20:30 sack 40:50     SACK blocks: these, in this order (`sack -`: none); `ts * 500`: any value
//!  > A 1 ack 11 [win 500]                 exactly this comes next (PSH is not compared)
//!  > -                                    nothing comes
//!  +200                                   200 ms pass, with all timers
//!  = ESTAB   = TIME-WAIT   = -            the connection's state; a record; nothing left
//!  = CLOSED Reset                         over, for this reason
//!  ev CONNECTED READABLE                  events since last asked
//!  send 100 · shutdown · abort · orphan · release · read [N] · hold · skip N · consume N · keep · timer MS
//!  connect [ERROR] · peer PORT · port PORT · forget · count NAME N · cells N · limit N
//!  mac N · to N                           the peer is at this station from now on; what came last went there
//!  algorithm Bbr · cwnd N                 its congestion control from now on; the congestion window is N bytes
//!  toobig MTU SEQ                         ICMP: our segment at SEQ was too long for a router
//! ```
//!
//! Nothing may come that no line expects. A script runs over IPv4 and over IPv6.

use dataplane::port::mem::{WireEnd, wire};
use dataplane::{Ctr, Time};
use stack::tcp::{Algorithm, Tuning};
use stack::{Events, FlowId};

use super::frames::{Ends, Tcp};
use super::own::{OwnHost, Setup};
use super::{Host, byte_at};

const OURS: u64 = 77;
const PEERS: u64 = 99;
/// The peer's ISN: its numbers wrap early.
const IRS: u32 = u32::MAX - 5;

/// Runs a script on a host that listens on port 80.
pub fn run(name: &str, script: &str) {
    run_on(name, &|_| {}, script);
}

/// Runs a script on a host that `change` has set up.
pub fn run_on(name: &str, change: &dyn Fn(&mut Setup), script: &str) {
    run_over(&[false, true], name, change, script);
}

/// The same over IPv4 (`false`) or IPv6 alone.
pub fn run_over(families: &[bool], name: &str, change: &dyn Fn(&mut Setup), script: &str) {
    for v6 in families.iter().copied() {
        let mut setup = Setup::host(1);
        setup.peer_mac = Some([2, 0, 0, 0, 0, 2]);
        // The start of a connection has a script of its own.
        setup.tcp = |t| t.quick_acks = 0;
        change(&mut setup);
        let (end, wire) = wire(64, 1600);
        let mut host = OwnHost::new(&setup, end);
        host.core.pipeline.manual = true;
        host.tcp().listen(None, 80).unwrap();
        let mut s = Script {
            host,
            wire,
            now: Time::from_ms(1000),
            v6,
            port: 80,
            peer: 7000,
            iss: None,
            id: None,
            held: 0,
            sent: 1,
            got: 1,
            ts_base: None,
            mac: 2,
            to: 0,
        };
        for (n, line) in script.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if !line.is_empty()
                && let Err(e) = s.line(line)
            {
                panic!("{name}, line {n} over IPv{}: `{line}`: {e}", if v6 { 6 } else { 4 });
            }
        }
        s.end().unwrap_or_else(|e| panic!("{name}, after the script: {e}"));
    }
}

struct Script {
    host: OwnHost,
    wire: WireEnd,
    now: Time,
    v6: bool,
    port: u16,
    peer: u16,
    iss: Option<u32>,
    id: Option<FlowId>,
    held: u32,
    sent: u64,
    got: u64,
    /// Our timestamp clock when the script began.
    ts_base: Option<u32>,
    /// The peer's station, and the one that the last segment went to.
    mac: u8,
    to: u8,
}

const BITS: [(char, u8); 8] =
    [('F', 1), ('S', 2), ('R', 4), ('P', 8), ('A', 16), ('U', 32), ('E', 64), ('W', 128)];

fn number<T: std::str::FromStr>(s: Option<&str>) -> Result<T, String> {
    s.and_then(|s| s.parse().ok()).ok_or_else(|| format!("a number is missing: {s:?}"))
}

impl Script {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let mut w = line.split_whitespace();
        let verb = w.next().unwrap_or("");
        if verb != ">" {
            self.quiet()?;
        }
        match verb {
            "<" | "<+" => {
                let seg = self.segment(&mut w, true)?;
                let ends = Ends { src_mac: [2, 0, 0, 0, 0, self.mac], ..Ends::hosts(2, 1, self.v6) };
                assert!(self.wire.send(&seg.frame(&ends)));
                if verb == "<" {
                    self.work();
                }
                Ok(())
            }
            ">" => self.expect(&mut w),
            "=" => self.state(&mut w),
            "ev" => self.events(w),
            "count" => self.count(&mut w),
            v if v.starts_with('+') => self.pass_time(number(Some(&v[1..]))?),
            verb => self.act(verb, &mut w),
        }
    }

    fn act(&mut self, verb: &str, w: &mut dyn Iterator<Item = &str>) -> Result<(), String> {
        let now = self.now;
        match verb {
            "mac" => self.mac = number(w.next())?,
            "to" => {
                let want: u8 = number(w.next())?;
                if self.to != want {
                    return Err(format!("it went to {}", self.to));
                }
            }
            "port" => self.port = number(w.next())?,
            "flows-max" => {
                let connections_max = number(w.next())?;
                self.host.tcp().tune(0, Tuning { connections_max, ..Tuning::default() });
            }
            "peer" => {
                self.peer = number(w.next())?;
                (self.iss, self.id, self.got, self.sent, self.ts_base) = (None, None, 1, 1, None);
            }
            "forget" => self.iss = None,
            "toobig" => {
                let (mtu, seq) = (number(w.next())?, number::<i64>(w.next())?);
                let seq = self.iss.unwrap_or(0).wrapping_add(seq as u32);
                let frame = super::frames::too_big(self.v6, mtu, self.port, self.peer, seq);
                assert!(self.wire.send(&frame));
            }
            "limit" => self.host.tcp().limit_connections(0, number(w.next())?),
            "connect" => {
                let to = (Ends::hosts(1, 2, self.v6).dst, self.peer).into();
                let r = {
                    let stack = self.host.stack();
                    stack.tcp.connect(&stack.net, to, now)
                };
                match (r, w.next()) {
                    (Ok(id), None) => {
                        self.id = Some(id);
                        self.port = self.host.tcp().tuple(id).local_port;
                        (self.iss, self.got, self.sent, self.ts_base) = (None, 1, 1, None);
                    }
                    (Err(e), Some(want)) if format!("{e:?}") == want => {}
                    (r, want) => return Err(format!("connect gives {r:?}, expected {want:?}")),
                }
            }
            "send" => {
                let (id, mut left) = (self.id()?, number::<u64>(w.next())?);
                while left > 0 {
                    let n = left.min(2000);
                    let s = self.host.data(OURS, self.sent, n as usize);
                    self.host.tcp().send(id, s).map_err(|_| "send was refused".to_owned())?;
                    (self.sent, left) = (self.sent + n, left - n);
                }
            }
            "refused" => {
                let (id, s) = (self.id()?, self.host.data(OURS, self.sent, 10));
                self.host.tcp().send(id, s).err().ok_or("send was taken")?;
            }
            "shutdown" => {
                let id = self.id()?;
                self.host.tcp().shutdown(id);
            }
            "abort" => {
                let id = self.id()?;
                self.host.tcp().abort(id);
            }
            "orphan" => {
                let id = self.id()?;
                self.host.tcp().orphan(id, now);
            }
            "release" => {
                let id = self.id()?;
                self.host.tcp().release(id);
            }
            "algorithm" => {
                let (id, name) = (self.id()?, w.next().unwrap_or(""));
                let a = Algorithm::ALL
                    .into_iter()
                    .find(|a| format!("{a:?}") == name)
                    .ok_or("no such algorithm")?;
                self.host.tcp().set_algorithm(id, a);
            }
            "cwnd" => {
                let (id, want) = (self.id()?, number::<u32>(w.next())?);
                let cwnd = self.host.tcp().flow(id).window.cwnd;
                if cwnd != want {
                    return Err(format!("it is {cwnd}"));
                }
            }
            "keep" => {
                let id = self.id()?;
                self.host.tcp().set_keep_alive(id, now);
            }
            "timer" => {
                let (id, ms) = (self.id()?, number::<u64>(w.next())?);
                self.host.tcp().set_timer(id, now.plus_ns(ms * 1_000_000));
            }
            "read" | "hold" => {
                let n = self.read()?;
                self.held += n;
                if verb == "read" {
                    let id = self.id()?;
                    self.host.tcp().consume(id, std::mem::take(&mut self.held));
                }
                if let Some(want) = w.next()
                    && number::<u32>(Some(want))? != n
                {
                    return Err(format!("{n} bytes read"));
                }
            }
            "skip" => {
                let (id, n) = (self.id()?, number::<u32>(w.next())?);
                self.skip(id, n as usize)?;
                self.held += n;
            }
            "consume" => {
                let (id, n) = (self.id()?, number(w.next())?);
                self.held -= n;
                self.host.tcp().consume(id, n);
            }
            "cells" => {
                let (pool, want) = (&self.host.rx, number::<u32>(w.next())?);
                let used = pool.capacity() - pool.free_count();
                if used != want {
                    return Err(format!("{used} receive cells in use"));
                }
            }
            other => return Err(format!("no such verb: {other}")),
        }
        self.work();
        Ok(())
    }

    fn id(&self) -> Result<FlowId, String> {
        self.id.ok_or_else(|| "there is no connection".to_owned())
    }

    fn read(&mut self) -> Result<u32, String> {
        let id = self.id()?;
        let mut n = 0;
        while let Some(s) = self.host.tcp().read(id) {
            self.take(&s)?;
            n += s.len() as u32;
        }
        Ok(n)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        for b in bytes {
            if *b != byte_at(PEERS, self.got) {
                return Err(format!("byte {} is wrong", self.got));
            }
            self.got += 1;
        }
        Ok(())
    }

    /// Takes so many bytes without their slices.
    fn skip(&mut self, id: FlowId, n: usize) -> Result<(), String> {
        let mut ahead = vec![0; n];
        let (there, unread) = (self.host.tcp().peek(id, &mut ahead), self.host.tcp().unread(id, usize::MAX));
        let front = self.host.tcp().front(id).to_vec();
        let common = front.len().min(n);
        if there != n || front[..common] != ahead[..common] || front.is_empty() != (unread == 0) {
            return Err(format!("{there} bytes are there, {} in the first piece", front.len()));
        }
        self.take(&ahead)?;
        self.host.tcp().skip(id, n);
        self.host.tcp().audit()?;
        let left = self.host.tcp().unread(id, usize::MAX);
        if left + n == unread { Ok(()) } else { Err(format!("{left} of {unread} bytes are left")) }
    }

    fn work(&mut self) {
        while self.host.pass(self.now) {}
        // An accepted connection is the one that the script is about.
        if let Some((id, _)) =
            self.host.core.pipeline.events.iter().rev().find(|(_, e)| e.has(Events::ACCEPTED))
        {
            self.id = Some(*id);
        }
    }

    fn pass_time(&mut self, ms: u64) -> Result<(), String> {
        let end = self.now.plus_ns(ms * 1_000_000);
        loop {
            self.work();
            let Some(t) = self.host.next_deadline(self.now).filter(|t| *t <= end) else { break };
            self.now = t.max(self.now.plus_ns(1));
        }
        self.now = end;
        self.work();
        Ok(())
    }

    /// Reads `FLAGS seq[:end] [ack N] [win N] [mss N] [ws N] [sackok] [ts VAL ECHO] [sack FROM:TO] …`.
    fn segment(&self, w: &mut dyn Iterator<Item = &str>, from_peer: bool) -> Result<Tcp, String> {
        let (mine, theirs) =
            if from_peer { (IRS, self.iss.unwrap_or(0)) } else { (self.iss.unwrap_or(0), IRS) };
        let mut s = Tcp { window: 60_000, src_port: self.peer, dst_port: self.port, ..Tcp::default() };
        for c in w.next().ok_or("flags are missing")?.chars().filter(|c| *c != '.') {
            s.bits |= BITS.iter().find(|b| b.0 == c).ok_or("no such flag")?.1;
        }
        let range = w.next().ok_or("a sequence number is missing")?;
        let (from, to) = range.split_once(':').unwrap_or((range, range));
        let (from, to): (i64, i64) = (number(Some(from))?, number(Some(to))?);
        s.seq = mine.wrapping_add(from as u32);
        let seed = if from_peer { PEERS } else { OURS };
        s.payload = (from..to).map(|i| byte_at(seed, i as u64)).collect();
        let base = self.ts_base.unwrap_or(0);
        let stamp = |of_ours: bool, n: Option<&str>| match n {
            Some("*") => Ok(0),
            n => number::<u32>(n).map(|n| n.wrapping_add(if of_ours { base } else { 0 })),
        };
        while let Some(word) = w.next() {
            match word {
                "sackok" => s.sack_ok = true,
                "ect" => s.ecn = 2,
                "ce" => s.ecn = 3,
                "notect" => s.ecn = 0,
                "ts" => {
                    let val = stamp(!from_peer, w.next())?;
                    s.ts = Some((val, stamp(from_peer, w.next())?));
                }
                "nots" => {}
                "sack" => {
                    // Of what the other side has sent.
                    let range = w.next().ok_or("blocks are missing")?;
                    if range != "-" {
                        let (from, to) = range.split_once(':').ok_or("a block is from:to")?;
                        let (from, to): (i64, i64) = (number(Some(from))?, number(Some(to))?);
                        s.sack.push((theirs.wrapping_add(from as u32), theirs.wrapping_add(to as u32)));
                    }
                }
                "ack" => s.ack = theirs.wrapping_add(number::<i64>(w.next())? as u32),
                "win" => s.window = number(w.next())?,
                "mss" => s.mss = Some(number(w.next())?),
                "ws" => s.scale = Some(number(w.next())?),
                other => return Err(format!("what is {other}?")),
            }
        }
        Ok(s)
    }

    fn next_segment(&mut self) -> Option<Tcp> {
        while let Some((to, t)) = self.wire.recv_with(|f| (f[5], Tcp::parse(f))) {
            if t.is_some() {
                self.to = to;
                return t;
            }
        }
        None
    }

    fn quiet(&mut self) -> Result<(), String> {
        match self.next_segment() {
            Some(s) => Err(format!("before it, nobody expected {}", self.show(&s))),
            None => Ok(()),
        }
    }

    fn show(&self, s: &Tcp) -> String {
        let flags: String = BITS.iter().filter(|b| s.bits & b.1 != 0).map(|b| b.0).collect();
        let seq = s.seq.wrapping_sub(self.iss.unwrap_or(0)) as i32;
        let (end, ack) = (seq + s.payload.len() as i32, s.ack.wrapping_sub(IRS) as i32);
        let sack: Vec<_> =
            s.sack.iter().map(|b| (b.0.wrapping_sub(IRS) as i32, b.1.wrapping_sub(IRS) as i32)).collect();
        let ts = s.ts.map(|(val, ecr)| (val.wrapping_sub(self.ts_base.unwrap_or(0)), ecr));
        format!(
            "{flags} {seq}:{end} ack {ack} win {} mss {:?} ws {:?} sackok {} ts {ts:?} sack {sack:?}",
            s.window, s.mss, s.scale, s.sack_ok
        )
    }

    fn expect(&mut self, w: &mut dyn Iterator<Item = &str>) -> Result<(), String> {
        let words: Vec<&str> = w.collect();
        if words == ["-"] {
            return self.quiet();
        }
        let Some(got) = self.next_segment() else { return Err("nothing came".to_owned()) };
        if got.bits & 2 != 0 && self.iss.is_none() {
            self.iss = Some(got.seq);
        }
        if let (Some((val, _)), None) = (got.ts, self.ts_base) {
            let ms = (self.now.since_ns(Time::from_ms(1000)) / 1_000_000) as u32;
            self.ts_base = Some(val.wrapping_sub(ms));
        }
        let mut want = self.segment(&mut words.iter().copied(), false)?;
        let given = |word| words.contains(&word);
        if let (Some(w), Some(g), Some(at)) = (&mut want.ts, got.ts, words.iter().position(|w| *w == "ts")) {
            w.0 = if words[at + 1] == "*" { g.0 } else { w.0 };
            w.1 = if words[at + 2] == "*" { g.1 } else { w.1 };
        }
        let same = (got.bits | 8, got.seq, &got.payload) == (want.bits | 8, want.seq, &want.payload)
            && (got.bits & 16 == 0 || got.ack == want.ack)
            && (got.src_port, got.dst_port) == (self.port, self.peer)
            && (!given("win") || got.window == want.window)
            && (!given("mss") || got.mss == want.mss)
            && (!given("ws") || got.scale == want.scale)
            && (!(given("ect") || given("notect")) || got.ecn == want.ecn)
            && (!given("sack") || got.sack == want.sack)
            && (!(given("ts") || given("nots")) || got.ts == want.ts)
            && (got.bits & 2 == 0 || !given("sackok") || got.sack_ok);
        if same { Ok(()) } else { Err(format!("came {}", self.show(&got))) }
    }

    fn state(&mut self, w: &mut dyn Iterator<Item = &str>) -> Result<(), String> {
        let (want, reason) = (w.next().unwrap_or(""), w.next());
        let live = self.host.tcp().flows().last();
        let got = match live {
            Some(id) => {
                let t = self.host.tcp();
                let state = t.state(id).name();
                if let Some(r) = reason
                    && format!("{:?}", t.close_reason(id)) != r
                {
                    return Err(format!("closed: {:?}", t.close_reason(id)));
                }
                state
            }
            None if want == "TIME-WAIT" && self.host.get(Ctr::TcpTimeWaits) > 0 => "TIME-WAIT",
            None => "-",
        };
        if got == want { Ok(()) } else { Err(format!("the state is {got}")) }
    }

    fn events<'a>(&mut self, w: impl Iterator<Item = &'a str>) -> Result<(), String> {
        const NAMES: [(&str, Events); 7] = [
            ("ACCEPTED", Events::ACCEPTED),
            ("CONNECTED", Events::CONNECTED),
            ("READABLE", Events::READABLE),
            ("WRITABLE", Events::WRITABLE),
            ("FIN", Events::FIN),
            ("CLOSED", Events::CLOSED),
            ("TIMEOUT", Events::TIMEOUT),
        ];
        let mut all = Events::default();
        for (_, e) in self.host.core.pipeline.events.drain(..) {
            all.set(e);
        }
        let got: Vec<&str> = NAMES.iter().filter(|n| all.has(n.1)).map(|n| n.0).collect();
        let mut want: Vec<&str> = w.filter(|w| *w != "-").collect();
        want.sort_by_key(|w| NAMES.iter().position(|n| n.0 == *w));
        if got == want { Ok(()) } else { Err(format!("events {got:?}")) }
    }

    fn count(&mut self, w: &mut dyn Iterator<Item = &str>) -> Result<(), String> {
        let (name, want) = (w.next().unwrap_or(""), number::<u64>(w.next())?);
        let c = Ctr::ALL.iter().find(|c| c.name() == name).ok_or("no such counter")?;
        let got = self.host.get(*c);
        if got == want { Ok(()) } else { Err(format!("it is {got}")) }
    }

    /// The laws hold, and when all connections are ended nothing is left.
    fn end(&mut self) -> Result<(), String> {
        self.quiet()?;
        self.host.core.pipeline.manual = false;
        let left: Vec<FlowId> = self.host.tcp().flows().collect();
        for id in left {
            self.host.tcp().abort(id);
        }
        self.work();
        while self.wire.recv_with(|_| ()).is_some() {}
        self.work();
        self.host.laws()?;
        self.host.leaks()
    }
}
