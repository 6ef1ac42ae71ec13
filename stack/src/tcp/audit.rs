//! What must hold of the engine between two calls, written down to be run: by tests, fuzz targets and the
//! simulator. O(everything); never on a data core.

use dataplane::Time;

use super::tcb::{Flags, FlowId, RecordId, State, Tcb};
use super::{List, Seq, Tcp};

macro_rules! must {
    ($cond:expr, $($what:tt)+) => {
        if !$cond {
            return Err(format!($($what)+));
        }
    };
}

impl Tcp {
    /// Checks every invariant of control blocks, queues, lists and timers.
    ///
    /// # Errors
    /// Which does not hold.
    #[doc(hidden)]
    pub fn audit(&self) -> Result<(), String> {
        let (mut records, mut segments, mut half_open) = (0, 0, 0);
        for id in self.table.flows.used() {
            let t = &self.table.flows[id];
            half_open += u32::from(t.flags.has(Flags::HALF_OPEN));
            let nothing = t.state == State::Closed;
            let (una, nxt) = (t.snd_una.max(t.iss + 1), t.snd_nxt.max(t.iss + 1));
            let out = self.segments.audit(&t.out, if nothing { nxt } else { una }, nxt);
            segments += out.map_err(|e| format!("{id:?} {}: {e}", t.state.name()))?;
            records += self.audit_flow(id, t).map_err(|e| format!("{id:?} {}: {e}", t.state.name()))?;
        }
        must!(records == self.records.in_use(), "{records} records queued, {} in use", self.records.in_use());
        must!(
            segments == self.segments.in_use(),
            "{segments} segments out, {} in use",
            self.segments.in_use()
        );
        must!(half_open == self.half_open, "{half_open} half open, {} counted", self.half_open);
        self.audit_lists(&[self.ready], Flags::IN_READY, |t| t.ready_next)?;
        self.audit_lists(&self.output, Flags::IN_OUTPUT, |t| t.output_next)
    }

    fn audit_lists(&self, lists: &[List], flag: Flags, next: fn(&Tcb) -> FlowId) -> Result<(), String> {
        let mut listed = 0;
        for l in lists {
            listed += self.audit_list(l, flag, next)?;
        }
        let flagged = self.table.flows.used().filter(|id| self.table.flows[*id].flags.has(flag)).count();
        must!(flagged == listed, "{flagged} have {flag:?}, {listed} are in the lists");
        Ok(())
    }

    fn audit_list(&self, list: &List, flag: Flags, next: fn(&Tcb) -> FlowId) -> Result<usize, String> {
        let (mut at, mut last, mut n) = (list.first, FlowId::NONE, 0);
        while at.is_some() {
            must!(self.table.flows.is_used(at), "{at:?} is in a list and free");
            let t = &self.table.flows[at];
            must!(t.flags.has(flag), "{at:?} is in a list without {flag:?}");
            (last, at, n) = (at, next(t), n + 1);
            must!(n <= self.table.flows.in_use(), "a list goes round");
        }
        must!(last == list.last, "a list ends at {last:?}, not at {:?}", list.last);
        Ok(n as usize)
    }

    /// Gives the number of send records of the connection.
    fn audit_flow(&self, id: FlowId, t: &Tcb) -> Result<u32, String> {
        let closed = t.state == State::Closed;
        let listed = t.flags.has(Flags::IN_READY) || t.flags.has(Flags::IN_OUTPUT);
        must!(!t.flags.has(Flags::DEAD) || (closed && listed), "dead, and in no list");
        must!(t.flags.has(Flags::HASHED) != closed, "in the table while closed, or open and not in it");
        if !closed {
            let hash = self.table.hash(&t.tuple);
            must!(self.table.find(hash, &t.tuple) == Some(id), "not found by its tuple");
            self.audit_sequence(t)?;
            self.audit_receive(t)?;
            self.audit_timers(id, t)?;
        }
        self.audit_send_queue(t, closed)
    }

    fn audit_sequence(&self, t: &Tcb) -> Result<(), String> {
        let fin = u32::from(t.flags.has(Flags::FIN_QUEUED));
        must!(t.snd_una.le(t.snd_nxt), "una {:?} nxt {:?}", t.snd_una, t.snd_nxt);
        must!(t.snd_nxt.le(t.queue_end + fin), "sent {:?} of {:?}", t.snd_nxt, t.queue_end);
        let fin_sent = matches!(t.state, State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck);
        must!(fin_sent == t.fin_sent(), "FIN sent: {}", t.fin_sent());
        must!(t.rcv_nxt.le(t.rcv_adv + 1), "rcv_nxt {:?} beyond {:?}", t.rcv_nxt, t.rcv_adv);
        Ok(())
    }

    fn audit_receive(&self, t: &Tcb) -> Result<(), String> {
        let unread: usize = t.rx.iter().map(|(_, n)| n).sum();
        must!(unread <= t.rcv_held as usize, "{unread} bytes to read, {} held", t.rcv_held);
        let mut from = t.rcv_nxt + 1;
        for (tag, n) in t.ooo.iter() {
            must!(Seq(tag).ge(from), "out of order: {tag} before {from:?}");
            from = Seq(tag) + n as u32;
        }
        must!(t.ooo.is_empty() || from.le(t.rcv_adv), "out of order beyond the window");
        for (a, b) in t.sack_out.runs() {
            must!(a.gt(t.rcv_nxt) && b.gt(*a), "a SACK block {a:?}..{b:?} at {:?}", t.rcv_nxt);
            let mut at = *a;
            // Twice: what comes behind the FIN's place may be held too.
            for _ in 0..2 {
                for (tag, n) in t.ooo.iter().filter(|(tag, _)| Seq(*tag).le(*b)) {
                    at = if Seq(tag).le(at) { at.max(Seq(tag) + n as u32) } else { at };
                }
                at += u32::from(t.flags.has(Flags::FIN_PENDING) && at == t.fin_seq);
            }
            must!(at.ge(*b), "a SACK block {a:?}..{b:?}, of which {at:?} is not held");
        }
        must!(!t.flags.has(Flags::ORPHAN) || (t.rx.is_empty() && t.ooo.is_empty()), "an orphan holds data");
        Ok(())
    }

    fn audit_timers(&self, id: FlowId, t: &Tcb) -> Result<(), String> {
        let at = t.deadline();
        let armed = self.wheel.deadline(id).unwrap_or(Time::NEVER);
        must!(
            at == Time::NEVER || armed <= at || t.flags.has(Flags::IN_OUTPUT),
            "armed for {armed}, not {at}"
        );
        let waits = t.snd_nxt.gt(t.snd_una) || t.has_unsent();
        let syn = matches!(t.state, State::SynSent | State::SynReceived);
        must!(
            t.rexmit_at != Time::NEVER
                || t.pace_at != Time::NEVER
                || t.flags.has(Flags::IN_OUTPUT)
                || !(waits || syn),
            "something to send, and nothing that will make it happen"
        );
        let owes = t.flags.has(Flags::ACK_NOW) || t.acks_owed > 0 || t.rcv_acked.lt(t.rcv_nxt);
        must!(
            !owes || syn || t.ack_at != Time::NEVER || t.flags.has(Flags::IN_OUTPUT),
            "an ACK is owed, and nothing will send it"
        );
        Ok(())
    }

    fn audit_send_queue(&self, t: &Tcb, closed: bool) -> Result<u32, String> {
        let (mut at, mut last, mut n, mut charge) = (t.send_head, RecordId::NONE, 0, 0);
        // The SYN is before everything that is queued.
        let (una, nxt) = (t.snd_una.max(t.iss + 1), t.snd_nxt.max(t.iss + 1));
        let mut end = una;
        let mut cursor = RecordId::NONE;
        while at.is_some() {
            let r = &self.records[at];
            let len = r.span();
            must!(len > 0, "an empty record");
            must!(r.slice.is_some() || r.tag != 0, "bytes that are gone, and nobody can make again");
            must!(r.slice.is_some() || (r.seq + len).le(nxt), "bytes that are gone were not sent");
            if n == 0 {
                must!(r.seq.le(una) && una.lt(r.seq + len), "the head does not hold SND.UNA");
            } else {
                must!(r.seq == end, "a gap in the queue");
            }
            end = r.seq + len;
            if r.seq.le(nxt) && nxt.lt(end) {
                cursor = at;
            }
            (last, at, n, charge) = (at, r.next, n + 1, charge + r.charge);
        }
        must!(!closed || n == 0, "closed, with data queued");
        must!(last == t.send_tail, "the tail is {last:?}, not {:?}", t.send_tail);
        must!(charge == t.send_charge, "charged {}, not {charge}", t.send_charge);
        if !closed {
            must!(n == 0 || end == t.queue_end, "the queue ends at {end:?}, not {:?}", t.queue_end);
            must!(n > 0 || t.queue_end.le(una), "data lost from the queue");
            must!(cursor == t.send_cursor, "the cursor is {:?}, SND.NXT in {cursor:?}", t.send_cursor);
        }
        Ok(n)
    }
}
