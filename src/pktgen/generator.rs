//! The core of the packet generator: resolves where frames go, sends them at the rate, looks at what comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Sender;

use dataplane::core_loop::Pipeline;
use dataplane::{Burst, L4, Packet, Pool, Port, Time, TxQueue};
use stack::{Addr, Net, parse};

use super::field::{Field, number_of};
use super::frames::{Pools, Stream, TEMPLATE_BYTES};
use super::look::{Seen, look};
use super::probe::{self, Signature};
use super::rate::{FCS_BYTES, Pacer, Rate};
use super::replay::{Capture, Replay};
use super::spec::Spec;

/// Frames that are made in one pass: as many as a port takes at once, so that they are still in a cache then.
const PER_PASS: usize = dataplane::BURST_MAX;
/// How long a station may take to answer who it is.
const RESOLVE_NS: u64 = 3_000_000_000;

/// What others may read while it runs.
#[derive(Default)]
pub struct Tally {
    /// Frames that came, by kind.
    pub seen: [AtomicU64; Seen::ALL.len()],
    /// Frames that were handed to the port.
    pub made: AtomicU64,
    /// Their bytes, FCS included.
    pub made_bytes: AtomicU64,
    /// Probes that came back, the first copy of each.
    pub probes: AtomicU64,
    /// Whether the stations are known, and frames go.
    pub sending: AtomicBool,
}

fn add(counter: &AtomicU64, n: u64) {
    // One writer: a plain store.
    counter.store(counter.load(Relaxed) + n, Relaxed);
}

/// What one stream has done.
#[derive(Clone, Debug, Default)]
pub struct StreamEnd {
    /// As it was written.
    pub text: String,
    /// Frames made.
    pub made: u64,
    /// Its probes that came back, if it has any.
    pub probes: Option<probe::Seen>,
}

/// How it ended.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// Why nothing was sent, if so.
    pub failed: Option<String>,
    /// From the first frame to the last, in nanoseconds.
    pub sending_ns: u64,
    /// Packets or bits that the rate would have had, and the core came too late for.
    pub behind: f64,
    /// The streams.
    pub streams: Vec<StreamEnd>,
}

/// What to send, how fast, for how long.
pub struct Plan {
    /// Streams.
    pub specs: Vec<Spec>,
    /// A capture, sent in place of streams; and whether it is sent again and again.
    pub capture: Option<(Capture, bool)>,
    /// All streams together; `None`: as recorded.
    pub rate: Option<Rate>,
    /// Speed of the link, if it is known.
    pub link_bps: Option<f64>,
    /// How long frames are sent; `None`: until `count`.
    pub duration_ns: Option<u64>,
    /// How many frames are sent, at most.
    pub count: Option<u64>,
    /// How long to wait for late answers.
    pub linger_ns: u64,
    /// Seed of everything that is random.
    pub seed: u64,
}

enum Phase {
    Resolving { until: Time },
    Sending { from: Time, until: Time },
    Lingering { until: Time, sent_ns: u64 },
    Done,
}

struct Job {
    spec: Spec,
    /// Made when the station is known.
    stream: Option<Stream>,
    /// Its turn among the others: the one with the most is next.
    turn: i64,
    seen: Option<probe::Seen>,
}

/// The pipeline.
pub struct Generator {
    net: Net,
    jobs: Vec<Job>,
    /// Of all of them.
    weights: i64,
    replay: Option<Replay>,
    pools: Pools,
    plan: Plan,
    pacer: Option<Pacer>,
    phase: Phase,
    /// When the first frame was due.
    began: Time,
    left: u64,
    /// Bytes of the longest frame, and of a template.
    longest: usize,
    /// The port has no buffers that frames can be written into.
    by_packets: bool,
    tally: Arc<Tally>,
    /// Set at the end: the loop's own sign to stop.
    stop: Arc<AtomicBool>,
    /// Set from outside: to end early.
    enough: Arc<AtomicBool>,
    end: Option<Sender<End>>,
    neighbours: Burst,
}

impl Generator {
    /// A generator on one port, which `net` describes.
    ///
    /// # Errors
    /// When there is no memory for the frames of a capture.
    pub fn new(
        net: Net,
        pools: Pools,
        mut plan: Plan,
        tally: Arc<Tally>,
        [stop, enough]: [Arc<AtomicBool>; 2],
        end: Sender<End>,
    ) -> Result<Generator, String> {
        let job = |spec: Spec| {
            let seen = spec.probe.then(probe::Seen::default);
            Job { spec, stream: None, turn: 0, seen }
        };
        let weights = plan.specs.iter().map(|s| i64::from(s.weight)).sum();
        let longest = plan.specs.iter().map(|s| s.size.largest() as usize).max().unwrap_or(0);
        let jobs: Vec<Job> = std::mem::take(&mut plan.specs).into_iter().map(job).collect();
        let replay =
            plan.capture.take().map(|(c, again)| Replay::new(c, again, TX_BOUND as u32)).transpose()?;
        let replay_is_there = replay.is_some();
        let left = plan.count.unwrap_or(u64::MAX);
        let phase = Phase::Resolving { until: Time(0) };
        Ok(Generator {
            net,
            jobs,
            weights,
            replay,
            pools,
            plan,
            pacer: None,
            phase,
            began: Time(0),
            left,
            longest: longest.max(TEMPLATE_BYTES),
            by_packets: replay_is_there,
            tally,
            stop,
            enough,
            end: Some(end),
            neighbours: Burst::new(),
        })
    }

    /// Asks for stations that are not known. Gives whether all are.
    fn resolve(&mut self, tx: &mut [TxQueue], now: Time) -> Result<bool, String> {
        let mut all = true;
        for (n, job) in self.jobs.iter_mut().enumerate() {
            if job.stream.is_some() {
                continue;
            }
            let first = address(job.spec.dst.lowest(), job.spec.v6);
            let own = self.net.ifaces[0].source_for(&first);
            let src = match (job.spec.src, own) {
                (Some(src), _) => src,
                (None, Some(own)) => Field::Fixed(number_of(own.ip())),
                (None, None) => {
                    return Err(format!(
                        "the port has no address of the family of {}; add --address or src=",
                        first.ip()
                    ));
                }
            };
            let known = match job.spec.dst_mac {
                Some(mac) => Some(mac),
                None => self.net.resolve(0, &first, tx, now).map_err(|_| {
                    format!(
                        "no way leads to {} from this port; add --gateway, dstmac=, or an --address in its prefix",
                        first.ip()
                    )
                })?,
            };
            match known {
                Some(mac) => {
                    let own = self.net.ifaces[0].mac;
                    job.stream = Some(Stream::new(&job.spec, n as u32, src, own, mac, self.plan.seed));
                }
                None => all = false,
            }
        }
        Ok(all)
    }

    fn fail(&mut self, why: String) {
        self.finish(End { failed: Some(why), ..End::default() });
    }

    fn finish(&mut self, mut end: End) {
        for job in &mut self.jobs {
            let made = job.stream.as_ref().map_or(0, Stream::made);
            end.streams.push(StreamEnd { text: job.spec.text.clone(), made, probes: job.seen.take() });
        }
        end.behind = self.pacer.as_ref().map_or(0.0, |p| p.behind);
        if let Some(tell) = self.end.take() {
            // Nobody asks any more: then nobody needs it.
            let _ = tell.send(end);
        }
        self.phase = Phase::Done;
        self.stop.store(true, Relaxed);
    }

    fn begin(&mut self, now: Time) {
        match self.plan.rate.map(|r| Pacer::new(r, self.plan.link_bps, now)).transpose() {
            Ok(pacer) => self.pacer = pacer,
            Err(e) => return self.fail(e),
        }
        let until = self.plan.duration_ns.map_or(Time::NEVER, |ns| now.plus_ns(ns));
        self.tally.sending.store(true, Relaxed);
        self.began = now;
        self.phase = Phase::Sending { from: now, until };
    }

    /// Whether what is recorded is due, and what the rate allows.
    #[inline]
    fn is_due(&self, from: Time, now: Time) -> bool {
        match (&self.pacer, &self.replay) {
            (Some(p), _) => p.may(),
            (None, Some(r)) => r.due_ns().is_some_and(|due| now >= from.plus_ns(due)),
            (None, None) => true,
        }
    }

    /// A frame of so many bytes was made.
    #[inline]
    fn pay(&mut self, len: usize) {
        if let Some(pacer) = &mut self.pacer {
            pacer.pay(len);
        }
        self.left -= 1;
    }

    /// Sends packets by the queue: a capture, and where a port cannot be written to. Gives whether anything was sent.
    fn send(&mut self, queue: &mut TxQueue, from: Time, now: Time) -> bool {
        if let Some(p) = &mut self.pacer {
            p.advance(now);
        }
        let (mut frames, mut bytes) = (0, 0);
        let most = self.left.min(queue.room().min(PER_PASS) as u64);
        while frames < most && self.is_due(from, now) {
            let packet = if let Some(replay) = &mut self.replay {
                replay.next()
            } else {
                turn(&mut self.jobs, self.weights).and_then(|s| s.next(&self.pools, now))
            };
            let Some(p) = packet else { break };
            let len = p.total_len();
            self.pay(len);
            frames += 1;
            bytes += len as u64 + FCS_BYTES;
            queue.push(p);
        }
        if frames > 0 {
            add(&self.tally.made, frames);
            add(&self.tally.made_bytes, bytes);
        }
        frames > 0
    }

    /// Sends frames written into the port's buffers, where it has some that are long enough; else packets are sent from
    /// now on.
    fn write<P: Port>(&mut self, port: &mut P, from: Time, now: Time) -> usize {
        if let Some(p) = &mut self.pacer {
            p.advance(now);
        }
        let most = self.left.min(PER_PASS as u64) as usize;
        let mut bytes = 0;
        let written = port.tx_fill(most, self.longest, &mut |room| {
            if !self.is_due(from, now) {
                return None;
            }
            let len = turn(&mut self.jobs, self.weights)?.write_next(room, now);
            self.pay(len);
            bytes += len as u64 + FCS_BYTES;
            Some(len)
        });
        let Some(frames) = written else {
            self.by_packets = true;
            return 0;
        };
        if frames > 0 {
            add(&self.tally.made, frames as u64);
            add(&self.tally.made_bytes, bytes);
        }
        frames
    }

    fn is_sent(&self, until: Time, now: Time) -> bool {
        let replayed = self.replay.as_ref().is_some_and(Replay::is_done);
        now >= until || self.left == 0 || replayed || self.enough.load(Relaxed)
    }

    /// Looks at a frame; gives it back when it is the link's business.
    fn look(&mut self, p: Packet, now: Time) -> Option<Packet> {
        let (seen, payload) = look(p.head());
        add(&self.tally.seen[seen as usize], 1);
        if let Some(s) = Signature::read(&p.head()[payload])
            && seen != Seen::EchoRequest
            // Not one of an earlier run over this port.
            && s.sent >= self.began
            && let Some(job) = self.jobs.get_mut(s.stream as usize)
            && let Some(all) = &mut job.seen
        {
            let before = all.unique;
            all.take(&s, now);
            add(&self.tally.probes, all.unique - before);
        }
        matches!(seen, Seen::Neighbour | Seen::EchoRequest).then_some(p)
    }
}

impl Pipeline for Generator {
    fn burst(&mut self, rx: &mut Burst, tx: &mut [TxQueue], now: Time) {
        for p in rx.drain(..) {
            if let Some(p) = self.look(p, now) {
                self.neighbours.push(p);
            }
        }
        if self.neighbours.is_empty() {
            return;
        }
        for mut p in std::mem::take(&mut self.neighbours) {
            let iface = self.net.ifaces.get(usize::from(p.meta().port)).unwrap_or(&self.net.ifaces[0]);
            if parse::parse(&mut p, iface).is_err() {
                continue;
            }
            // What the stack makes of it does not matter here: it is counted above, and answered if it asks us.
            let _ = match p.meta().l4_kind {
                L4::Arp => self.net.arp_input(&p, tx, now).is_ok(),
                L4::Icmp4 => self.net.icmp4_input(p, tx, now).is_ok(),
                L4::Icmp6 => self.net.icmp6_input(p, tx, now).is_ok(),
                _ => false,
            };
        }
    }

    fn timers(&mut self, tx: &mut [TxQueue], now: Time) -> bool {
        let ran = self.net.timers(tx, now);
        match self.phase {
            Phase::Resolving { until } => {
                let until = if until == Time(0) { now.plus_ns(RESOLVE_NS) } else { until };
                self.phase = Phase::Resolving { until };
                match self.resolve(tx, now) {
                    Err(e) => self.fail(e),
                    Ok(true) => self.begin(now),
                    Ok(false) if now >= until || self.enough.load(Relaxed) => {
                        let who = self.jobs.iter().find(|j| j.stream.is_none());
                        let who = who.map_or(String::new(), |j| {
                            let first = address(j.spec.dst.lowest(), j.spec.v6);
                            format!(" towards {}", first.ip())
                        });
                        self.fail(format!(
                            "nobody answers{who}: ARP and ND were asked for 3 s; look at the link and at --address, \
                             or say dstmac="
                        ));
                    }
                    Ok(false) => {}
                }
                true
            }
            Phase::Sending { from, until } => {
                let sent = self.by_packets && self.send(&mut tx[0], from, now);
                if self.is_sent(until, now) {
                    let until = now.plus_ns(self.plan.linger_ns);
                    self.phase = Phase::Lingering { until, sent_ns: now.since_ns(from) };
                }
                sent | ran
            }
            Phase::Lingering { until, sent_ns } => {
                if now >= until {
                    self.finish(End { sending_ns: sent_ns, ..End::default() });
                }
                ran
            }
            Phase::Done => false,
        }
    }

    fn fill<P: Port>(&mut self, port: &mut P, number: usize, now: Time) -> usize {
        match self.phase {
            _ if self.by_packets || number > 0 => 0,
            Phase::Sending { from, .. } => self.write(port, from, now),
            // What the device had no room for.
            Phase::Lingering { .. } => port.tx_fill(0, 0, &mut |_| None).unwrap_or(0),
            _ => 0,
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        Some(match (&self.phase, &self.pacer, &self.replay) {
            (Phase::Resolving { .. }, ..) => Time(0),
            (Phase::Sending { until, .. }, Some(p), _) => p.next().min(*until),
            (Phase::Sending { from, .. }, None, Some(r)) => from.plus_ns(r.due_ns().unwrap_or(0)),
            (Phase::Sending { .. }, None, None) => Time(0),
            (Phase::Lingering { until, .. }, ..) => *until,
            (Phase::Done, ..) => Time(0),
        })
    }
}

/// Whose turn it is, by weight.
#[inline]
fn turn(jobs: &mut [Job], weights: i64) -> Option<&mut Stream> {
    if let [only] = jobs {
        return only.stream.as_mut();
    }
    for job in jobs.iter_mut() {
        job.turn += i64::from(job.spec.weight);
    }
    let job = jobs.iter_mut().max_by_key(|j| j.turn)?;
    job.turn -= weights;
    job.stream.as_mut()
}

/// A number as an address.
fn address(n: u128, v6: bool) -> Addr {
    if v6 { Addr::v6(&n.to_be_bytes()) } else { Addr::v4(&(n as u32).to_be_bytes()) }
}

/// Frames that are under way to the port.
pub const TX_BOUND: usize = 1024;

/// A pool for small answers of our own: ARP, ND, echo.
pub fn answers() -> Result<Pool, String> {
    Pool::reserve("answers", 256, 2048, hugepages::PagePolicy::Best).map_err(|e| e.to_string())
}
