//! `millrace flows` in the node: asks the cores for their connections, a page at a time.
//!
//! ```text
//!  handler ── CoreOrder::Flows(page) ──► each core, once in a pass: copies up to 64 connections into its page
//!          ◄── ticket passed ──────────  notes where to go on
//! ```
//!
//! A core does a bounded amount in a pass, allocates nothing, and is asked again only when the last page has been read: a
//! million connections take it a few seconds of short pages. The answer has a bound as well; whoever wants more asks
//! again with the places at which it ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use dataplane::Time;
use serde_json::Value;
use stack::tcp::COPIES_MAX;
use stack::{FlowInfo, Tcp};

use super::orders::{CoreOrder, Desk, Ticket};
use crate::config::Listener;
use crate::control::flows::{Filter, Listeners, to_json};
use crate::control::{Answer, ControlHandler, Request};

/// How long the cores may take over a page: a pass each, unless something is very wrong.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections in one answer.
const ANSWER_FLOWS_MAX: usize = 4096;
/// How long one request may hold up the others.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);
/// No place: a core that has told all.
const DONE: u32 = u32::MAX;

/// What one core is asked and tells. The handler keeps it, so that no core is ever the last to let go of it.
pub struct FlowPage {
    /// Where the core is to begin; where to go on, once it has passed. [`DONE`]: nothing is left.
    place: AtomicU32,
    flows: ArrayQueue<FlowInfo>,
}

impl Default for FlowPage {
    fn default() -> FlowPage {
        FlowPage { place: AtomicU32::new(DONE), flows: ArrayQueue::new(COPIES_MAX as usize) }
    }
}

impl FlowPage {
    /// Empties it, and says where the core is to begin. Only when no core has it.
    pub fn begin(&self, place: u32) {
        while self.take().is_some() {}
        self.place.store(place, Ordering::Relaxed);
    }

    /// The next of what the core has told.
    pub fn take(&self) -> Option<FlowInfo> {
        self.flows.pop()
    }

    /// Where the core is to go on; `None` when it has told all.
    pub fn place(&self) -> Option<u32> {
        Some(self.place.load(Ordering::Relaxed)).filter(|p| *p != DONE)
    }

    /// The core's part.
    pub fn fill(&self, tcp: &Tcp, now: Time) {
        let Some(from) = self.place() else { return };
        // Cannot overflow: it is empty, and has room for all that one call gives.
        let next = tcp.copy_flows(from, now, |flow| {
            let _ = self.flows.push(flow);
        });
        self.place.store(next.unwrap_or(DONE), Ordering::Relaxed);
    }
}

/// Answers `flows`.
pub struct FlowsVerb {
    desk: Arc<Desk<CoreOrder>>,
    listeners: Listeners,
    pages: Vec<Arc<FlowPage>>,
    /// A page that a core may still be filling.
    open: Option<Ticket>,
}

impl FlowsVerb {
    /// For the cores of `desk`, which take connections at `listeners`.
    pub fn new(desk: Arc<Desk<CoreOrder>>, listeners: &[Listener]) -> FlowsVerb {
        let pages = (0..desk.cores()).map(|_| Arc::default()).collect();
        FlowsVerb { desk, listeners: Listeners::of(listeners), pages, open: None }
    }

    /// Has the cores fill a page each.
    fn ask(&mut self) -> Result<(), &'static str> {
        const LATE: &str = "a core does not answer; see whether its CPU is shared or stalled";
        let page = |core: usize| CoreOrder::Flows(Arc::clone(&self.pages[core]));
        let ticket = self.desk.tell_all(page).ok_or(LATE)?;
        let passed = self.desk.wait(&ticket, PATIENCE);
        self.open = (!passed).then_some(ticket);
        if passed { Ok(()) } else { Err(LATE) }
    }

    fn collect(&mut self, filter: &Filter, from: &[u32]) -> Result<Answer, &'static str> {
        let began = Instant::now();
        for (core, page) in self.pages.iter().enumerate() {
            page.begin(from.get(core).copied().unwrap_or(0));
        }
        let (mut flows, mut seen) = (Vec::new(), 0u64);
        loop {
            self.ask()?;
            for (core, page) in self.pages.iter().enumerate() {
                while let Some(flow) = page.take() {
                    seen += 1;
                    if filter.wants(&flow, &self.listeners) {
                        flows.push(to_json(&flow, core, &self.listeners));
                    }
                }
            }
            let done = self.pages.iter().all(|p| p.place().is_none());
            let full = flows.len() >= ANSWER_FLOWS_MAX || began.elapsed() >= ANSWER_TIME_MAX;
            if done || full {
                let places = self.pages.iter().map(|p| p.place().unwrap_or(DONE));
                let next = if done { Value::Null } else { places.collect::<Vec<_>>().into() };
                return Ok(Answer::done(format!("{} of {seen} connections", flows.len()))
                    .with("flows", flows)
                    .with("seen", seen)
                    .with("next", next));
            }
        }
    }
}

impl ControlHandler for FlowsVerb {
    fn verbs(&self) -> &'static [&'static str] {
        &["flows"]
    }

    fn handle(&mut self, request: &Request) -> Answer {
        let mut args = request.args.clone();
        let from = match args.remove("from") {
            None | Some(Value::Null) => Vec::new(),
            Some(v) => match serde_json::from_value::<Vec<u32>>(v) {
                Ok(from) => from,
                Err(_) => {
                    return Answer::usage("\"from\" is what the last answer had as \"next\"; send that");
                }
            },
        };
        // A page whose core has not passed since must not be touched.
        match Filter::of(&args) {
            Err(e) => Answer::usage(e),
            Ok(_) if self.open.as_ref().is_some_and(|t| !self.desk.all_passed(t)) => Answer::bad(
                "a core has not answered the last time yet; see whether its CPU is shared or stalled",
            ),
            Ok(filter) => self.collect(&filter, &from).unwrap_or_else(Answer::bad),
        }
    }
}
