//! What was sent of stored bodies, and can be sealed again: when memory for records is short, ciphertext is let go before
//! it is acknowledged, and made anew, bit for bit, should it have to be sent again (DESIGN.md, D4).
//!
//! ```text
//!   send_stored ─► record in a cell ─► TCP's send queue            a note: object, offset, length, record number
//!                                         │ short of cells: let_go_some
//!                                         ▼
//!                                      sent, its cell given back ─► acknowledged: the note goes
//!                                         │ lost: Events::MISSING
//!                                         ▼
//!                        the object's bytes ─► seal_again ─► put_back
//! ```
//!
//! - **What.** Records that hold one range of one stored object and lie in a cell for long records. The object is kept by a
//!   pin, one for each run of a connection's notes. Received and proxied bytes lie nowhere else: they stay.
//! - **When.** Less than an eighth of the cells is free: a hand goes round over the notes, and lets go what TCP has sent.
//!   New stored bytes leave the last sixteenth alone: that is for handshakes, received records and those sealed again.
//! - **The same bytes.** One number must never seal two plaintexts. A record sealed again is compared with what
//!   authenticated the first one before anybody sees it; if it differs the connection ends, and that is counted.
//! - **KeyUpdate** (ours): the old key is gone with it. What is away is sealed again before, and stored bytes wait for that;
//!   what an older key has sealed is not let go.
//! - **No cell** for it: TCP asks again after a millisecond.
//! - **An owner that leaves** before TCP has all its bytes leaves the connection to us: `Phase::Leaves`, until it has.

use std::rc::Rc;
use std::sync::Arc;

use dataplane::{Ctr, Time};
use hugepages::{Arena, Footprint, Limits, Slab, SlabIndex, typed_index};
use stack::tcp::{RecordId, Seq};
use stack::{Events, FlowId};

use super::secured::Phase;
use super::{Conns, SessionId};
use crate::cache::store::{Cursor, ObjectId, Store};
use crate::tls::record::{ContentType, RecordNumber};

typed_index! {
    /// A note.
    pub(super) struct NoteId;
}

/// Notes for each cell for records: what is away has none.
const NOTES_PER_CELL: u32 = 4;
/// Notes that one call looks at, and lets go, at most.
const LOOKS: u32 = 64;
const GO: u32 = 8;
/// Bytes of a record's tag that are remembered.
const MARK: usize = 8;
const TAG: usize = 16;

/// Where plaintext lies in the store.
#[derive(Clone, Copy)]
pub(super) struct Stored {
    pub object: ObjectId,
    pub from: u64,
}

/// What a record was sealed from.
struct Note {
    /// Whose it is; NONE: its object waits to be let go by the store.
    flow: FlowId,
    /// The piece of TCP's send queue.
    piece: RecordId,
    /// Where in the stream it ends.
    end: Seq,
    /// The connection's next; of its last one: the first.
    next: NoteId,
    at: Option<Stored>,
    number: RecordNumber,
    bytes: u16,
    /// TCP has its bytes no more.
    is_away: bool,
    /// The object is kept in this one's name.
    has_pin: bool,
    /// The start of what authenticates it.
    mark: [u8; MARK],
}

impl Note {
    const NONE: Note = Note {
        flow: FlowId::NONE,
        piece: RecordId::NONE,
        end: Seq(0),
        next: NoteId::NONE,
        at: None,
        number: RecordNumber { generation: 0, seq: 0 },
        bytes: 0,
        is_away: false,
        has_pin: false,
        mark: [0; MARK],
    };
}

/// The store's bodies, to read what is pinned.
pub(super) struct Bodies(Arc<Store>);

impl Bodies {
    pub fn read(&self, id: ObjectId, cursor: &mut Cursor, most: usize, take: impl FnMut(&[u8])) {
        self.0.read(id, cursor, most, take);
    }
}

/// What can be sealed again, of one core.
pub(super) struct Again {
    notes: Slab<NoteId, Note>,
    /// Those whose objects the store may have back.
    done: NoteId,
    /// Where it is looked next.
    hand: u32,
    bodies: Option<Rc<Bodies>>,
    /// Where a record's plaintext is put together.
    plain: Box<[u8]>,
    /// The time of this pass.
    pub now: Time,
}

impl Again {
    fn notes(limits: &Limits) -> u32 {
        if limits.tls_connections == 0 { 0 } else { limits.record_cells * NOTES_PER_CELL }
    }

    pub fn cost(limits: &Limits) -> usize {
        Slab::<NoteId, Note>::cost(Again::notes(limits) as usize)
    }

    pub fn footprint(limits: &Limits, f: &mut Footprint) {
        let item = size_of::<Note>() as u64 + 4;
        let why = "records that can be sealed again: four for each cell";
        f.add("tls notes", Again::notes(limits).into(), item, why);
    }

    pub fn new(limits: &Limits, arena: &mut Arena, plain: usize) -> Option<Again> {
        Some(Again {
            notes: Slab::new(arena, Again::notes(limits), || Note::NONE)?,
            done: NoteId::NONE,
            hand: 0,
            bodies: None,
            plain: vec![0; plain].into(),
            now: Time(0),
        })
    }

    pub fn read_from(&mut self, store: Arc<Store>) {
        self.bodies = Some(Rc::new(Bodies(store)));
    }

    #[inline]
    pub fn bodies(&self) -> Option<Rc<Bodies>> {
        self.bodies.clone()
    }

    /// Notes of records that are not acknowledged.
    pub fn in_use(&self) -> u32 {
        self.notes.in_use()
    }

    /// The note goes, and what it keeps.
    fn free(&mut self, id: NoteId) {
        let note = &mut self.notes[id];
        note.flow = FlowId::NONE;
        if std::mem::take(&mut note.has_pin) {
            note.next = std::mem::replace(&mut self.done, id);
        } else {
            self.notes.free(id);
        }
    }
}

fn tag_of(id: NoteId) -> u32 {
    id.to_u32() + 1
}

/// What came of sealing again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    Done,
    NoCell,
    /// It is not what it was, or never will be.
    Wrong,
}

impl Conns<'_> {
    /// A pass begins.
    pub fn begin(&mut self, now: Time) {
        self.tls.again.now = now;
        if !self.tls.starving.is_empty() {
            self.feed();
        }
    }

    /// An object that was kept here and is to be unpinned, if there is one.
    #[inline]
    pub fn next_unkept(&mut self) -> Option<ObjectId> {
        let again = &mut self.tls.again;
        let id = again.done;
        if id.is_none() {
            return None;
        }
        let at = again.notes[id].at;
        again.done = again.notes[id].next;
        again.notes.free(id);
        at.map(|at| at.object)
    }

    /// Less than an eighth of the cells for records is free.
    fn cells_are_short(&self) -> bool {
        let records = &self.tls.cells.records;
        records.free_count() < records.capacity() / 8
    }

    /// Whether a connection that has something queued had better be given no more of what comes `from` another: one of
    /// them has TLS, and memory for records is short. What is queued tells when there is room.
    #[inline]
    pub fn is_short(&self, from: FlowId, to: FlowId) -> bool {
        (self.is_secured(to) || from.is_some() && self.is_secured(from))
            && self.cells_are_short()
            && self.queued(to) > 0
    }

    /// Whether something that is queued has not been sent: its acknowledgment will tell.
    pub fn has_unsent(&self, flow: FlowId) -> bool {
        let t = self.tcp.flow(flow);
        t.snd_nxt.lt(t.queue_end) || self.pending(flow) > 0
    }

    /// Whether new bytes of the store have to wait.
    #[inline]
    pub(super) fn is_out_of_cells(&mut self) -> bool {
        self.tls.cells.are_few() && {
            self.let_go_some();
            self.tls.cells.are_few()
        }
    }

    /// Seals and queues a record of stored bytes, and notes where they lie.
    pub(super) fn ship_stored(&mut self, flow: FlowId, c: SessionId, plain: &[u8], at: Stored) -> bool {
        if self.tls.cells.records.free_count() == 0 {
            return self.ship(flow, c, ContentType::ApplicationData, plain);
        }
        let number = self.tls.sessions.next_number(c);
        let Some(record) = self.sealed(c, ContentType::ApplicationData, plain) else { return false };
        let tls = &mut *self.tls;
        let is_long = record.len() > tls.cells.payload.cell_bytes() as usize;
        let Some(id) = is_long.then(|| tls.again.notes.alloc()).flatten() else {
            return self.tcp.send(flow, record).is_ok();
        };
        let mut mark = [0; MARK];
        mark.copy_from_slice(&record[record.len() - TAG..][..MARK]);
        let Ok(piece) = self.tcp.send_tagged(flow, record, tag_of(id)) else {
            tls.again.notes.free(id);
            return false;
        };
        let last = tls.secured[c].notes();
        let has_pin = last.is_some() && {
            let note = &mut tls.again.notes[last];
            let same = note.at.is_some_and(|a| a.object == at.object);
            same && std::mem::take(&mut note.has_pin)
        };
        if let (false, Some(bodies)) = (has_pin, &tls.again.bodies) {
            bodies.0.pin(at.object);
        }
        let next = if last.is_some() { std::mem::replace(&mut tls.again.notes[last].next, id) } else { id };
        tls.secured[c].set_notes(id);
        tls.again.notes[id] = Note {
            flow,
            piece,
            end: self.tcp.flow(flow).queue_end,
            next,
            at: Some(at),
            number,
            bytes: plain.len() as u16,
            is_away: false,
            has_pin: true,
            mark,
        };
        if self.cells_are_short() {
            self.let_go_some();
        }
        true
    }

    /// Gives cells back whose records TCP has sent, and does not need next.
    #[cold]
    fn let_go_some(&mut self) {
        let tls = &mut *self.tls;
        let (n, mut gone) = (tls.again.notes.capacity(), 0);
        for _ in 0..LOOKS.min(n) {
            tls.again.hand = if tls.again.hand + 1 < n { tls.again.hand + 1 } else { 0 };
            let id = NoteId::from_u32(tls.again.hand);
            if !tls.again.notes.is_used(id) {
                continue;
            }
            let note = &mut tls.again.notes[id];
            if note.flow.is_none() || note.is_away {
                continue;
            }
            let Some(c) = super::secured_of(self.tcp.layer(note.flow)) else { continue };
            if !tls.secured[c].has_session() {
                continue;
            }
            let of_this_key = tls.sessions.next_number(c).generation == note.number.generation;
            if of_this_key
                && !tls.sessions.update_due(c)
                && self.tcp.let_go(note.flow, note.piece, tag_of(id))
            {
                note.is_away = true;
                tls.counters.inc(Ctr::TlsRecordsLetGo);
                gone += 1;
                if gone == GO {
                    break;
                }
            }
        }
    }

    /// Notes of what is acknowledged go.
    fn settle(&mut self, flow: FlowId, c: SessionId) {
        let una = self.tcp.flow(flow).snd_una;
        let tls = &mut *self.tls;
        loop {
            let last = tls.secured[c].notes();
            if last.is_none() {
                break;
            }
            let first = tls.again.notes[last].next;
            if tls.again.notes[first].end.gt(una) {
                break;
            }
            if first == last {
                tls.secured[c].set_notes(NoteId::NONE);
            } else {
                tls.again.notes[last].next = tls.again.notes[first].next;
            }
            tls.again.free(first);
        }
    }

    /// All notes of a connection go: nothing of it will be sealed again.
    pub(super) fn drop_notes(&mut self, c: SessionId) {
        let tls = &mut *self.tls;
        let last = tls.secured[c].notes();
        if last.is_none() {
            return;
        }
        tls.secured[c].set_notes(NoteId::NONE);
        let mut id = tls.again.notes[last].next;
        loop {
            let next = tls.again.notes[id].next;
            tls.again.free(id);
            if id == last {
                return;
            }
            id = next;
        }
    }

    /// An event of a connection with notes: what is acknowledged, and what TCP lacks.
    #[inline(never)]
    pub(super) fn look_back(&mut self, flow: FlowId, c: SessionId, events: Events) {
        self.settle(flow, c);
        if events.has(Events::MISSING)
            && let Some(tag) = self.tcp.missing(flow)
            && let Made::Wrong = self.make(flow, c, NoteId::from_u32(tag - 1))
        {
            self.break_now(flow);
        }
    }

    /// Seals a record again, and gives it to TCP.
    fn make(&mut self, flow: FlowId, c: SessionId, id: NoteId) -> Made {
        if self.tls.cells.records.free_count() == 0 {
            self.let_go_some();
        }
        let tls = &mut *self.tls;
        if !tls.secured[c].has_session() {
            return Made::Wrong;
        }
        let again = &mut tls.again;
        let (note, Some(bodies)) = (&mut again.notes[id], &again.bodies) else { return Made::Wrong };
        let Some(at) = note.at.filter(|_| note.flow == flow) else { return Made::Wrong };
        let want = usize::from(note.bytes);
        let Some(mut w) = tls.cells.writer(tls.sessions.sealed_bytes(c, want)) else {
            tls.counters.inc(Ctr::TlsAgainWaits);
            return Made::NoCell;
        };
        let (mut n, plain) = (0, &mut again.plain);
        bodies.read(at.object, &mut Cursor::at(at.from), want, |piece| {
            plain[n..n + piece.len()].copy_from_slice(piece);
            n += piece.len();
        });
        let (number, kind) = (note.number, ContentType::ApplicationData);
        w.fill(|room| tls.sessions.seal_again(c, number, kind, &plain[..n], room).unwrap_or(0));
        let record = w.take();
        w.release();
        // Two plaintexts under one number would give both away: nobody gets to see the second.
        let same = |r: &dataplane::Slice| n == want && r[r.len() - TAG..][..MARK] == note.mark;
        let Some(record) = record.filter(same) else {
            tls.counters.inc(Ctr::TlsAgainDiffers);
            return Made::Wrong;
        };
        if self.tcp.put_back(flow, note.piece, tag_of(id), record).is_err() {
            return Made::Wrong;
        }
        note.is_away = false;
        Made::Done
    }

    /// Whether a KeyUpdate of ours has to come next, and cannot: there is no cell for what it would make nobody's.
    pub(super) fn is_held_up(&mut self, flow: FlowId, c: SessionId) -> bool {
        let s = &self.tls.secured[c];
        s.is_open() && s.notes().is_some() && self.tls.sessions.update_due(c) && !self.make_whole(flow, c)
    }

    /// Seals again whatever of a connection is away. Gives whether nothing is now.
    pub(super) fn make_whole(&mut self, flow: FlowId, c: SessionId) -> bool {
        self.settle(flow, c);
        let last = self.tls.secured[c].notes();
        if last.is_none() {
            return true;
        }
        let mut id = last;
        loop {
            id = self.tls.again.notes[id].next;
            if self.tls.again.notes[id].is_away && self.make(flow, c, id) != Made::Done {
                return false;
            }
            if id == last {
                return true;
            }
        }
    }

    /// Too much is kept in the store that nobody finds any more. Of the connections that keep objects of which `is_evicted`
    /// says so, those forget them that have all their records; one that has not ends. Gives whether one did.
    pub fn keep_less(&mut self, is_evicted: impl Fn(ObjectId) -> bool) -> bool {
        let n = self.tls.again.notes.capacity();
        for _ in 0..LOOKS.min(n) {
            let again = &mut self.tls.again;
            again.hand = if again.hand + 1 < n { again.hand + 1 } else { 0 };
            let id = NoteId::from_u32(again.hand);
            if !again.notes.is_used(id) || again.notes[id].flow.is_none() {
                continue;
            }
            let flow = again.notes[id].flow;
            let Some(c) = self.secured(flow) else { continue };
            if !self.tls.again.notes[id].at.is_some_and(|at| is_evicted(at.object)) {
                continue;
            }
            if self.tcp.is_whole(flow) {
                self.drop_notes(c);
            } else {
                self.end_now(flow, c);
                return true;
            }
        }
        false
    }

    fn end_now(&mut self, flow: FlowId, c: SessionId) {
        if self.tls.secured[c].phase() == Phase::Leaves {
            self.abort(flow);
        } else {
            self.break_now(flow);
        }
    }
}
