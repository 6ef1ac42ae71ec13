//! Trials: runs of the generator one after the other over the same ports, on a thread of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;
use std::time::Duration;

use dataplane::core_loop::Core;
use dataplane::counters::{Counters, Segment};
use dataplane::{Clock, Ctr, Pool, Port};
use stack::Iface;

use super::super::args::PortArgs;
use super::super::generator::{End, Generator, Plan, TX_BOUND, Tally};
use super::super::port;

/// A trial to be made.
pub struct Order {
    /// What to send.
    pub plan: Plan,
    /// Where it is counted.
    pub tally: Arc<Tally>,
}

/// A trial that is over.
pub struct Made {
    /// How it ended.
    pub end: End,
    /// Frames that the port took.
    pub sent: u64,
}

/// Where trials are made.
pub struct Station {
    /// The ports, as they run.
    pub ports: String,
    orders: Sender<Order>,
    made: Receiver<Result<Made, String>>,
    thread: JoinHandle<()>,
}

const DIED: &str = "the core has ended; its message is above";

impl Station {
    /// Opens the ports. What the second one receives counts too. `enough` ends the trial that runs.
    ///
    /// # Errors
    /// One sentence, with the mend.
    pub fn open(on: &PortArgs, second: Option<PortArgs>, enough: Arc<AtomicBool>) -> Result<Station, String> {
        let all: Vec<PortArgs> = [Some(on.clone()), second].into_iter().flatten().collect();
        let (tell_ports, ports) = mpsc::channel();
        let (orders, of_orders) = mpsc::channel();
        let (tell, made) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("millrace-pktgen".to_owned())
            // On the thread that polls them, so that memory lies where it is used.
            .spawn(move || match Bench::open(&all) {
                Ok((mut bench, said)) => {
                    let _ = tell_ports.send(Ok(said));
                    bench.serve(&of_orders, &tell, &enough);
                }
                Err(e) => drop(tell_ports.send(Err(e))),
            })
            .map_err(|e| format!("cannot start a thread: {e}"))?;
        let ports = ports.recv().map_err(|_| DIED)??;
        Ok(Station { ports, orders, made, thread })
    }

    /// Begins a trial.
    ///
    /// # Errors
    /// When the thread has died.
    pub fn begin(&self, order: Order) -> Result<(), String> {
        self.orders.send(order).map_err(|_| DIED.to_owned())
    }

    /// Waits for its end, for so long; `None`: not yet.
    ///
    /// # Errors
    /// Why nothing was sent.
    pub fn wait(&self, long: Duration) -> Result<Option<Made>, String> {
        match self.made.recv_timeout(long) {
            Ok(made) => made.map(Some),
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(DIED.to_owned()),
        }
    }

    /// Closes the ports.
    ///
    /// # Errors
    /// When the thread had died.
    pub fn close(self) -> Result<(), String> {
        drop(self.orders);
        self.thread.join().map_err(|_| DIED.to_owned())
    }
}

/// What the thread has.
struct Bench {
    ifaces: Vec<Iface>,
    ports: Vec<Box<dyn Port>>,
    pool: Option<Pool>,
    /// Once it has had something to do.
    core: Option<Core<Generator>>,
    segment: Arc<Segment>,
    counters: Counters,
}

impl Bench {
    fn open(all: &[PortArgs]) -> Result<(Bench, String), String> {
        if let Some(cpu) = all.first().and_then(|on| on.core) {
            crate::node::pin(cpu);
        }
        let (mut ifaces, mut ports, mut said, mut pool) = (Vec::new(), Vec::new(), Vec::new(), None);
        for (n, on) in all.iter().enumerate() {
            let port = port::open(&on.port, on.mac, on.mtu, n as u8)?;
            let facts = port.facts();
            ifaces.push(port::iface(on, facts)?);
            said.push(format!("{}:{} ({})", facts.kind, facts.device, facts.mode));
            if n == 0 {
                pool = port::frames(&*port);
            }
            ports.push(port);
        }
        let segment = Segment::in_memory(1);
        let counters = segment.writer(0);
        Ok((Bench { ifaces, ports, pool, core: None, segment, counters }, said.join(", receiving ")))
    }

    /// Until nobody can order any more. Between trials it takes what still comes, and answers who asks for us.
    fn serve(
        &mut self,
        orders: &Receiver<Order>,
        tell: &Sender<Result<Made, String>>,
        enough: &Arc<AtomicBool>,
    ) {
        let clock = Clock::calibrated();
        loop {
            match orders.try_recv() {
                Ok(order) => {
                    let made = self.run(order, &clock, enough);
                    if tell.send(made).is_err() {
                        return;
                    }
                }
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {
                    let busy = self.core.as_mut().is_some_and(|core| core.pass(clock.now()));
                    if !busy {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }
            }
        }
    }

    /// Frames that the ports did not take, or have not yet.
    fn not_sent(&self) -> [u64; 3] {
        let c = self.segment.read();
        [Ctr::DropTxPortError, Ctr::DropTxQueueFull, Ctr::TxQueued].map(|n| c.get(n))
    }

    fn run(&mut self, order: Order, clock: &Clock, enough: &Arc<AtomicBool>) -> Result<Made, String> {
        let before = self.not_sent();
        let stop = Arc::<AtomicBool>::default();
        let (tell_end, end_of) = mpsc::channel();
        let signs = [Arc::clone(&stop), Arc::clone(enough)];
        let ifaces = self.ifaces.clone();
        let tally = Arc::clone(&order.tally);
        let pool = self.pool.clone();
        let generator = port::generator(ifaces, pool, order.plan, &self.counters, tally, signs, tell_end)?;
        let core = match &mut self.core {
            Some(core) => {
                core.pipeline = generator;
                core
            }
            none => {
                let ports = std::mem::take(&mut self.ports);
                none.insert(Core::new(ports, generator, self.counters.clone(), TX_BOUND))
            }
        };
        core.run(clock, &stop);
        let end = end_of.recv().map_err(|_| DIED)?;
        if let Some(why) = end.failed {
            return Err(why);
        }
        let after = self.not_sent();
        let lost: u64 = before.iter().zip(after).map(|(b, a)| a.saturating_sub(*b)).sum();
        Ok(Made { end, sent: order.tally.made.load(Relaxed).saturating_sub(lost) })
    }
}
