//! Active health checks: connections of their own, on one core for each group.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;

use dataplane::{Ctr, Time};
use stack::{CloseReason, ConnectError, Events, FlowId};

use super::exchange::Role;
use super::{Io, Proxy};
use crate::phases::proxy_protocol::ProxyHeader;
use crate::tls::origin::{Reason, Refusal};
use crate::upstream::{CheckAction, CheckReply, CheckTarget, Checks, reply};

/// Bytes of an answer that are looked at: its status line.
const REPLY_BYTES: usize = 16;

/// The checks of one upstream.
pub(super) struct Run {
    /// Of the current plan.
    upstream: u16,
    checks: Checks,
    origins: Vec<Probe>,
}

/// One origin's check.
#[derive(Clone, Copy)]
struct Probe {
    flow: FlowId,
    seen: [u8; REPLY_BYTES],
    len: u8,
    /// The request is still to be sent: when the handshake is done.
    is_shaking: bool,
    /// Which of its addresses is asked.
    address: u8,
    /// Whether the origin was up when that was said last.
    told_up: bool,
}

impl Proxy {
    /// Begins the checks that are this core's by the current plan. Not for the hot path: it allocates.
    pub(super) fn start_checks(&mut self, now: Time) {
        debug_assert!(self.runs.is_empty());
        let program = Arc::clone(&self.current.program);
        for (n, u) in program.config.upstreams.iter().enumerate() {
            let Some(checks) = u.checks.as_ref().filter(|_| n % self.cores == self.core) else { continue };
            let target = |o: &super::Origin| CheckTarget {
                host: checks.host.clone().unwrap_or_else(|| o.authority.clone()),
                preamble: Vec::new(),
            };
            let targets: Vec<CheckTarget> = u.origins.iter().map(target).collect();
            let random = now.0 ^ (n as u64) << 32 ^ self.unix_ns_at_start;
            let idle = |i| {
                let told_up = u.health.get(i).up;
                Probe {
                    flow: FlowId::NONE,
                    seen: [0; REPLY_BYTES],
                    len: 0,
                    is_shaking: false,
                    address: 0,
                    told_up,
                }
            };
            self.runs.push(Run {
                upstream: n as u16,
                checks: Checks::new(checks.settings.clone(), &targets, Arc::clone(&u.health), now, random),
                origins: (0..targets.len()).map(idle).collect(),
            });
        }
        self.checks_at = if self.runs.is_empty() { Time::NEVER } else { now };
        self.set_down();
    }

    /// Ends all checks.
    pub(super) fn end_checks(&mut self, io: &mut Io<'_>) {
        for run in self.runs.drain(..) {
            for p in run.origins.iter().filter(|p| p.flow.is_some()) {
                io.tcp.abort(p.flow);
            }
        }
        self.checks_at = Time::NEVER;
    }

    /// Follows the current plan with the checks.
    pub(super) fn renew_checks(&mut self, io: &mut Io<'_>) {
        self.end_checks(io);
        if !self.draining {
            self.start_checks(io.now);
        }
    }

    /// Begins the checks that are due, and ends those that take too long. Gives whether there was one.
    pub(super) fn run_checks(&mut self, io: &mut Io<'_>) -> bool {
        if io.now < self.checks_at {
            return false;
        }
        for run in 0..self.runs.len() {
            for i in 0..self.runs[run].origins.len() {
                // Its answer may lie there, and we lack memory to read it.
                let (r, flow) = (&self.runs[run], self.runs[run].origins[i].flow);
                if r.checks.is_late(i, io.now) && flow.is_some() && io.tcp.starves(flow) {
                    self.leave_out(io, run, i);
                }
            }
            // An origin is due at most twice: it times out, and begins anew.
            for _ in 0..2 * self.runs[run].origins.len() {
                let random = self.random(io);
                match self.runs[run].checks.poll(io.now, random) {
                    None => break,
                    Some(CheckAction::TimedOut(i)) => {
                        self.counters.inc(Ctr::OriginCheckFailures);
                        self.end_probe(io, run, i, true);
                        self.tell_check(io.now, run, i, &"no answer in time");
                    }
                    Some(CheckAction::Start(i)) => self.start_probe(io, run, i),
                }
            }
        }
        self.set_checks_at();
        self.set_down();
        true
    }

    fn set_checks_at(&mut self) {
        self.checks_at = self.runs.iter().map(|r| r.checks.next_deadline()).min().unwrap_or(Time::NEVER);
    }

    fn start_probe(&mut self, io: &mut Io<'_>, run: usize, i: usize) {
        self.counters.inc(Ctr::OriginChecks);
        let r = &mut self.runs[run];
        let probe = &mut r.origins[i];
        probe.len = 0;
        let origin = &self.current.program.config.upstreams[r.upstream as usize].origins[i];
        let n = origin.addresses.len();
        let address = origin.addresses.get(usize::from(probe.address) % n.max(1));
        let (is_found, tls) = (address.is_some(), origin.tls.clone());
        probe.is_shaking = tls.is_some();
        let opened = address.map(|a| io.tcp.connect(io.net, SocketAddr::new(*a, origin.port), io.now));
        if let Some(Err(ConnectError::NoFlow | ConnectError::NoPort)) = opened {
            return self.leave_out(io, run, i);
        }
        if let Some(Ok(flow)) = opened {
            probe.flow = flow;
            io.tcp.set_user(flow, Role::Check { run: run as u16, origin: i as u8 }.encode());
            let version = self.current.program.config.upstreams[r.upstream as usize].proxy_protocol;
            // A check is nobody's.
            let announced = version.is_none_or(|v| self.send_header(io, flow, v, &ProxyHeader::Local));
            let begun = announced
                && match tls {
                    None => self.send_check(io, run, i),
                    Some(tls) => self.start_tls(io, flow, &tls),
                };
            if !begun {
                self.leave_out(io, run, i);
            }
            return;
        }
        let why = if is_found { "it cannot be connected to" } else { "it has no address" };
        self.probe_failed(io, run, i, &why);
    }

    /// That we lack room for a check says nothing about its origin.
    fn leave_out(&mut self, io: &mut Io<'_>, run: usize, i: usize) {
        self.counters.inc(Ctr::OriginChecksLeftOut);
        self.runs[run].checks.left_out(i, io.now);
        self.end_probe(io, run, i, false);
        self.set_checks_at();
    }

    /// Asks what the check asks. Gives whether that could be sent.
    fn send_check(&mut self, io: &mut Io<'_>, run: usize, i: usize) -> bool {
        let r = &mut self.runs[run];
        r.origins[i].is_shaking = false;
        let flow = r.origins[i].flow;
        let request = self.cells.store(r.checks.request(i));
        request.is_some_and(|s| io.tcp.send(flow, s).is_ok())
    }

    fn probe_failed(&mut self, io: &mut Io<'_>, run: usize, i: usize, why: &dyn Display) {
        self.counters.inc(Ctr::OriginCheckFailures);
        self.runs[run].checks.failed(i, io.now);
        self.end_probe(io, run, i, true);
        self.tell_check(io.now, run, i, why);
        self.set_checks_at();
        self.set_down();
    }

    /// Tells the operator when the last check has changed what an origin is.
    fn tell_check(&mut self, now: Time, run: usize, i: usize, why: &dyn Display) {
        let upstream = self.runs[run].upstream;
        let up = self.config().upstreams[upstream as usize].health.get(i).up;
        if std::mem::replace(&mut self.runs[run].origins[i].told_up, up) != up {
            self.say_checked(now, upstream, i, why);
        }
    }

    fn end_probe(&mut self, io: &mut Io<'_>, run: usize, i: usize, failed: bool) {
        let probe = &mut self.runs[run].origins[i];
        // The next one by another address, if there is one.
        probe.address = probe.address.wrapping_add(failed.into());
        let flow = std::mem::replace(&mut probe.flow, FlowId::NONE);
        if flow.is_some() {
            io.let_go(flow);
        }
    }

    /// Something has happened to a check's connection.
    pub(super) fn check_event(&mut self, io: &mut Io<'_>, run: u16, i: u8, flow: FlowId, events: Events) {
        let (run, i) = (usize::from(run), usize::from(i));
        let known = self.runs.get(run).and_then(|r| r.origins.get(i)).is_some_and(|p| p.flow == flow);
        if !known {
            io.tcp.abort(flow);
            return;
        }
        if events.has(Events::CONNECTED)
            && self.runs[run].origins[i].is_shaking
            && !self.send_check(io, run, i)
        {
            self.leave_out(io, run, i);
            return;
        }
        let mut said = CheckReply::More;
        while said == CheckReply::More
            && let Some(piece) = io.tcp.read(flow)
        {
            let probe = &mut self.runs[run].origins[i];
            let at = usize::from(probe.len);
            let n = piece.len().min(REPLY_BYTES - at);
            probe.seen[at..at + n].copy_from_slice(&piece[..n]);
            probe.len += n as u8;
            said = reply(&probe.seen[..at + n]);
            io.tcp.consume(flow, piece.len() as u32);
        }
        match said {
            CheckReply::Status(status) => {
                let bad = self.runs[run].checks.bad;
                self.runs[run].checks.status(i, status, io.now);
                self.counters.add(Ctr::OriginCheckFailures, self.runs[run].checks.bad - bad);
                self.end_probe(io, run, i, false);
                self.tell_check(io.now, run, i, &format_args!("status {status}"));
                self.set_checks_at();
                self.set_down();
            }
            CheckReply::Bad => self.probe_failed(io, run, i, &"its answer is not HTTP"),
            CheckReply::More if events.has(Events::CLOSED) && io.tcp.starves(flow) => {
                self.leave_out(io, run, i);
            }
            CheckReply::More if events.has(Events::CLOSED) && self.tls_refusal(io, flow).is_some() => {
                let why = self.tls_refusal(io, flow).unwrap_or(Refusal::plain(Reason::Closed));
                self.counters.inc(why.reason.counter());
                if !why.reason.is_the_origins() {
                    return self.leave_out(io, run, i);
                }
                self.probe_failed(io, run, i, &format_args!("the TLS handshake: {why}"));
            }
            CheckReply::More if events.has(Events::CLOSED) || io.tcp.at_end(flow) => {
                let why = match io.tcp.close_reason(flow) {
                    _ if !events.has(Events::CLOSED) => "it has closed the connection without an answer",
                    CloseReason::Refused => "the connection is refused",
                    _ => "the connection broke",
                };
                self.probe_failed(io, run, i, &why);
            }
            CheckReply::More => {}
        }
    }

    /// How many of the origins that this core checks are down.
    fn set_down(&self) {
        let mut down = 0;
        for r in &self.runs {
            let health = &self.current.program.config.upstreams[r.upstream as usize].health;
            down += (0..health.len()).filter(|i| !health.get(*i).up).count() as u64;
        }
        self.counters.set(Ctr::OriginDown, down);
    }
}
