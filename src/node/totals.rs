//! `millrace stats tcp` in the node: has the cores add up what their connections have done, a few in a pass.
//!
//! ```text
//!  handler ── CoreOrder::Totals(page): begin, then on and on ──► each core: Tcp::count, a bounded amount
//!          ◄── all cores are through: their sums, in the pages ──
//! ```
//!
//! Like `flows`, but nothing is copied before the end, and the core keeps the sums: a connection that ends meanwhile is
//! counted once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use dataplane::Time;
use stack::Tcp;
use stack::tcp::{Algorithm, Class, LISTENERS_MAX};

use super::orders::{CoreOrder, Desk, Ticket};
use crate::config::Listener;
use crate::control::flows::Listeners;
use crate::control::totals::{Row, Who, to_json};
use crate::control::{Answer, ControlHandler, Request};

/// How long the cores may take over a step: a pass each, unless something is very wrong.
const PATIENCE: Duration = Duration::from_secs(5);
const LATE: &str = "a core does not answer; see whether its CPU is shared or stalled";
const WORDS: usize = Class::NAMES.len();
const ALGORITHMS: usize = Algorithm::ALL.len();

/// What one core is asked and tells. The handler keeps it, so that no core is ever the last to let go of it.
pub struct TotalsPage {
    /// The next step is the first.
    begin: AtomicBool,
    done: AtomicBool,
    /// How many classes there are.
    classes: AtomicUsize,
    words: Box<[AtomicU64]>,
}

impl Default for TotalsPage {
    fn default() -> TotalsPage {
        let words = (0..(LISTENERS_MAX + 1) * ALGORITHMS * WORDS).map(|_| AtomicU64::new(0)).collect();
        TotalsPage { begin: false.into(), done: true.into(), classes: 0.into(), words }
    }
}

impl TotalsPage {
    /// Has the core begin anew with its next step. Only when no core has it.
    pub fn begin(&self) {
        self.begin.store(true, Ordering::Relaxed);
        self.done.store(false, Ordering::Relaxed);
    }

    /// Whether the sums are there.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// The core's part: a step. What it stores is seen by who has seen it pass.
    pub fn step(&self, tcp: &mut Tcp, now: Time) {
        if self.is_done() {
            return;
        }
        if self.begin.swap(false, Ordering::Relaxed) {
            tcp.begin_count();
        }
        if !tcp.count(now) {
            return;
        }
        let mut classes = 0;
        for (class, room) in tcp.counted().zip(self.words.chunks_exact(WORDS)) {
            for (word, n) in room.iter().zip(class.words()) {
                word.store(n, Ordering::Relaxed);
            }
            classes += 1;
        }
        self.classes.store(classes, Ordering::Relaxed);
        self.done.store(true, Ordering::Relaxed);
    }

    /// The sums: by listener of TCP and at last our own connections, for each by the number of the algorithm.
    pub fn classes(&self) -> Vec<Class> {
        let class = |room: &[AtomicU64]| {
            let mut words = [0; WORDS];
            for (n, word) in words.iter_mut().zip(room) {
                *n = word.load(Ordering::Relaxed);
            }
            Class::of(words)
        };
        let all = self.words.chunks_exact(WORDS).map(class);
        all.take(self.classes.load(Ordering::Relaxed)).collect()
    }
}

/// Answers `tcp_totals`.
pub struct TotalsVerb {
    desk: Arc<Desk<CoreOrder>>,
    listeners: Listeners,
    pages: Vec<Arc<TotalsPage>>,
    /// A step that a core may still be at.
    open: Option<Ticket>,
}

impl TotalsVerb {
    /// For the cores of `desk`, which take connections at `listeners`.
    pub fn new(desk: Arc<Desk<CoreOrder>>, listeners: &[Listener]) -> TotalsVerb {
        let pages = (0..desk.cores()).map(|_| Arc::default()).collect();
        TotalsVerb { desk, listeners: Listeners::of(listeners), pages, open: None }
    }

    fn collect(&mut self) -> Result<Vec<Row>, &'static str> {
        if self.open.as_ref().is_some_and(|t| !self.desk.all_passed(t)) {
            return Err(LATE);
        }
        for page in &self.pages {
            page.begin();
        }
        while !self.pages.iter().all(|p| p.is_done()) {
            let page = |core: usize| CoreOrder::Totals(Arc::clone(&self.pages[core]));
            let ticket = self.desk.tell_all(page).ok_or(LATE)?;
            if !self.desk.wait(&ticket, PATIENCE) {
                self.open = Some(ticket);
                return Err(LATE);
            }
        }
        Ok(self.rows())
    }

    /// All cores and all addresses of a listener together.
    fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for page in &self.pages {
            let classes = page.classes();
            let ours = classes.len() / ALGORITHMS - 1;
            for (n, class) in classes.iter().enumerate() {
                let (side, algorithm) = (n / ALGORITHMS, Algorithm::ALL[n % ALGORITHMS]);
                let who = match self.listeners.of_tcp(side as u16) {
                    Some(listener) if side < ours => Who::Listener(listener),
                    _ => Who::Origins,
                };
                match rows.iter_mut().find(|r| r.who == who && r.algorithm == algorithm) {
                    Some(row) => row.sums.add(class),
                    None => rows.push(Row { who, algorithm, sums: *class }),
                }
            }
        }
        rows.retain(|r| r.sums != Class::default());
        rows
    }
}

impl ControlHandler for TotalsVerb {
    fn verbs(&self) -> &'static [&'static str] {
        &["tcp_totals"]
    }

    fn handle(&mut self, _request: &Request) -> Answer {
        match self.collect() {
            Ok(rows) => Answer::done("added up").with("tcp", to_json(&rows)),
            Err(e) => Answer::bad(e),
        }
    }
}
