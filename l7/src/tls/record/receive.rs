//! What a session receives: records opened, and what is in them.

use std::ops::Range;

use aws_lc_rs::aead::{Aad, Nonce};
use dataplane::Ctr;

use super::session::{RX_BROKEN, RX_CLOSED, Session, SessionId, UPDATE_OWED, Way};
use super::sessions::{Sessions, aad12};
use super::{Alert, ContentType, HEADER_BYTES, PLAIN_MAX, RECORD_MAX, Side, TAG_BYTES};
use crate::tls::keys::Version;

/// Records in a row that may come without data.
pub const QUIET_MAX: u8 = 32;

/// Records that a key is good for, where they bring data: whoever changes it sooner does that [`QUIET_MAX`] times.
const KEY_RECORDS_MIN: u64 = 16;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
/// Bytes before a handshake message's body: its type, and 24 bits of length.
const MESSAGE_HEAD: usize = 4;
/// Bytes of a ticket at most: RFC 8446, 4.6.1, field by field.
const TICKET_MAX: usize = 4 + 4 + 256 + 65_537 + 65_536;

/// What a record was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Data: where in the record. Never empty.
    Data(Range<usize>),
    /// Nothing to do: empty, a warning, a part of a message.
    Nothing,
    /// The peer's next secret counts already. `asked`: it wants ours changed too, which
    /// [`Sessions::update_due`] remembers.
    KeyUpdate {
        /// Whether it wants ours changed too.
        asked: bool,
    },
    /// On the client's side: where in the record whole NewSessionTicket messages are, for [`tickets`]. A KeyUpdate may have
    /// come with them: [`Sessions::update_due`] remembers.
    Tickets(Range<usize>),
    /// The peer's end in good order: what it sent before is all there is.
    CloseNotify,
    /// The peer gave up, and says why.
    Fatal(Alert),
}

/// The bodies of the NewSessionTicket messages that [`Received::Tickets`] points at.
pub fn tickets(messages: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = messages;
    std::iter::from_fn(move || {
        let (head, behind) = rest.split_first_chunk::<MESSAGE_HEAD>()?;
        let (body, behind) = behind.split_at_checked(message_bytes(head))?;
        rest = behind;
        Some(body)
    })
}

/// Why a record is not taken: the alert, and the counter when the alert does not say enough.
struct Refusal {
    alert: Alert,
    flood: bool,
}

impl<A: Into<Alert>> From<A> for Refusal {
    fn from(alert: A) -> Refusal {
        Refusal { alert: alert.into(), flood: false }
    }
}

impl Sessions {
    /// Opens one whole record in place, and says what it is. `record` is exactly as long as [`header`](super::header) says.
    ///
    /// After the peer's close_notify, records are ignored; after an error or a fatal alert, each is an error.
    ///
    /// # Errors
    /// The alert that we must send, and then end. The record's bytes are then of no meaning.
    pub fn receive(&mut self, id: SessionId, record: &mut [u8]) -> Result<Received, Alert> {
        let session = &self.sessions[id];
        if session.has(RX_BROKEN) {
            return Err(Alert::UNEXPECTED_MESSAGE);
        }
        if session.has(RX_CLOSED) {
            return Ok(Received::Nothing);
        }
        let bytes = record.len() as u64;
        match self.take(id, record) {
            Ok(received) => {
                self.counters.inc(Ctr::TlsRecordsOpened);
                self.counters.add(Ctr::TlsBytesReceived, bytes);
                Ok(received)
            }
            Err(Refusal { alert, flood }) => {
                self.sessions[id].flags |= RX_BROKEN;
                if flood {
                    self.counters.inc(Ctr::TlsFloods);
                } else {
                    self.count_bad(alert);
                }
                Err(alert)
            }
        }
    }

    fn take(&mut self, id: SessionId, record: &mut [u8]) -> Result<Received, Refusal> {
        let (kind, range) = self.unseal(id, record)?;
        let session = &mut self.sessions[id];
        let body = &record[range.clone()];
        if kind != ContentType::Handshake && session.is_within_message() {
            // Nothing may come between the parts of a message (RFC 8446, 5.1).
            return Err(Alert::UNEXPECTED_MESSAGE.into());
        }
        match kind {
            ContentType::ApplicationData if !body.is_empty() => {
                // A little data between one change of keys and the next makes it no cheaper.
                if session.seq[Way::Rx as usize] >= KEY_RECORDS_MIN {
                    session.quiet = 0;
                }
                return Ok(Received::Data(range));
            }
            ContentType::ApplicationData => {}
            // Empty ones may not be sent (RFC 8446, 5.1; RFC 5246, 6.2.1).
            _ if body.is_empty() => return Err(Alert::UNEXPECTED_MESSAGE.into()),
            ContentType::Alert => {
                let received = alert(session, body)?;
                if received != Received::Nothing {
                    return Ok(received);
                }
            }
            ContentType::Handshake if session.version == Version::Tls12 => {
                // HelloRequest or ClientHello: a wish to shake hands again.
                let wish = matches!((session.side, body[0]), (Side::Client, 0) | (Side::Server, 1));
                let alert = if wish { Alert::HANDSHAKE_FAILURE } else { Alert::UNEXPECTED_MESSAGE };
                return Err(alert.into());
            }
            ContentType::Handshake => {
                let Messages { tickets, update } = messages(session, body, range.start)?;
                if update.is_some() {
                    self.contexts.forget(session, Way::Rx);
                    self.counters.inc(Ctr::TlsKeyUpdatesReceived);
                }
                quiet(session)?;
                return Ok(match (tickets, update) {
                    (Some(range), _) => Received::Tickets(range),
                    (None, Some(asked)) => Received::KeyUpdate { asked },
                    (None, None) => Received::Nothing,
                });
            }
            // RFC 8446, 5: after the peer's Finished, which is before our time, it is as unexpected as any.
            ContentType::ChangeCipherSpec => return Err(Alert::UNEXPECTED_MESSAGE.into()),
        }
        quiet(session)?;
        Ok(Received::Nothing)
    }

    /// Opens a record in place: its true type, and where its content is.
    fn unseal(&mut self, id: SessionId, record: &mut [u8]) -> Result<(ContentType, Range<usize>), Alert> {
        let Some((&mut head, sealed)) = record.split_first_chunk_mut::<HEADER_BYTES>() else {
            return Err(Alert::DECODE_ERROR);
        };
        let kind = ContentType::from_byte(head[0]).ok_or(Alert::UNEXPECTED_MESSAGE)?;
        if usize::from(u16::from_be_bytes([head[3], head[4]])) != sealed.len() {
            return Err(Alert::DECODE_ERROR);
        }
        if HEADER_BYTES + sealed.len() > RECORD_MAX {
            return Err(Alert::RECORD_OVERFLOW);
        }
        let session = &self.sessions[id];
        let is13 = session.version == Version::Tls13;
        if is13 && kind != ContentType::ApplicationData {
            // Nothing comes in clear any more, nor with another type outside (RFC 8446, 5 and 5.2).
            return Err(Alert::UNEXPECTED_MESSAGE);
        }
        let seq = session.seq[Way::Rx as usize];
        let explicit = session.explicit_bytes();
        // What is too short to be sealed does not authenticate.
        let (in_clear, sealed) = sealed.split_at_mut_checked(explicit).ok_or(Alert::BAD_RECORD_MAC)?;
        let plain = sealed.len().checked_sub(TAG_BYTES).ok_or(Alert::BAD_RECORD_MAC)?;
        let (body, tag) = sealed.split_at_mut(plain);
        let next = seq.checked_add(1).ok_or(Alert::UNEXPECTED_MESSAGE)?;

        let context = self.contexts.of(&mut self.sessions, id, Way::Rx)?;
        let (key, mut nonce) = (&context.key, context.nonce(seq));
        if explicit > 0 {
            nonce[NONCE_TAIL].copy_from_slice(in_clear);
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = if is13 {
            key.open_in_place_separate_tag(nonce, Aad::from(head), tag, body).is_ok()
        } else {
            let [high, low] = (plain as u16).to_be_bytes();
            let aad = Aad::from(aad12(seq, [head[0], head[1], head[2], high, low]));
            key.open_in_place_separate_tag(nonce, aad, tag, body).is_ok()
        };
        if !opened {
            return Err(Alert::BAD_RECORD_MAC);
        }
        self.sessions[id].seq[Way::Rx as usize] = next;

        let start = HEADER_BYTES + explicit;
        if !is13 {
            let fits = plain <= PLAIN_MAX;
            return if fits { Ok((kind, start..start + plain)) } else { Err(Alert::RECORD_OVERFLOW) };
        }
        // RFC 8446, 5.4: content, type, zeros; all of it at most 2^14 + 1 bytes.
        if plain > PLAIN_MAX + 1 {
            return Err(Alert::RECORD_OVERFLOW);
        }
        let end = body.iter().rposition(|b| *b != 0).ok_or(Alert::UNEXPECTED_MESSAGE)?;
        let kind = ContentType::from_byte(body[end]).ok_or(Alert::UNEXPECTED_MESSAGE)?;
        Ok((kind, start..start + end))
    }
}

/// Where in a nonce of GCM the explicit part is (RFC 5288, 3).
const NONCE_TAIL: Range<usize> = 4..12;

/// Counts a record that brought no data.
fn quiet(session: &mut Session) -> Result<(), Refusal> {
    session.quiet += 1;
    if session.quiet > QUIET_MAX {
        return Err(Refusal { alert: Alert::UNEXPECTED_MESSAGE, flood: true });
    }
    Ok(())
}

/// An alert. One record holds one, and one whole (RFC 8446, 5.1).
fn alert(session: &mut Session, body: &[u8]) -> Result<Received, Alert> {
    let &[level, code] = body else { return Err(Alert::DECODE_ERROR) };
    let alert = Alert(code);
    if alert == Alert::CLOSE_NOTIFY {
        session.flags |= RX_CLOSED;
        return Ok(Received::CloseNotify);
    }
    let warning = match session.version {
        // The level says nothing: all but these two are errors (RFC 8446, 6).
        Version::Tls13 => alert == Alert::USER_CANCELED,
        Version::Tls12 if level == 1 || level == 2 => level == 1,
        Version::Tls12 => return Err(Alert::ILLEGAL_PARAMETER),
    };
    if warning {
        return Ok(Received::Nothing);
    }
    session.flags |= RX_BROKEN;
    Ok(Received::Fatal(alert))
}

/// What a record's handshake messages were.
struct Messages {
    /// Where in the record whole tickets are.
    tickets: Option<Range<usize>>,
    /// A KeyUpdate, and whether it asks for ours.
    update: Option<bool>,
}

/// Handshake messages of TLS 1.3, after the handshake: KeyUpdate, and tickets on the client's side (RFC 8446, 4.6). They
/// may share a record, and one may span several (5.1): of a ticket that does, the bytes are let go. `at` is where in the
/// record `body` begins.
fn messages(session: &mut Session, body: &[u8], at: usize) -> Result<Messages, Alert> {
    let mut rest = body;
    let mut found = Messages { tickets: None, update: None };
    while !rest.is_empty() {
        let skip = session.skip();
        if skip > 0 {
            let skipped = rest.len().min(skip as usize);
            session.set_skip(skip - skipped as u32);
            rest = &rest[skipped..];
            continue;
        }
        let (message_at, fresh) = (at + body.len() - rest.len(), session.partial_bytes == 0);
        let have = usize::from(session.partial_bytes);
        let taken = rest.len().min(MESSAGE_HEAD - have);
        session.partial[have..have + taken].copy_from_slice(&rest[..taken]);
        session.partial_bytes += taken as u8;
        rest = &rest[taken..];
        if usize::from(session.partial_bytes) < MESSAGE_HEAD {
            break;
        }
        let length = message_bytes(&session.partial);
        match (session.partial[0], session.side) {
            (KEY_UPDATE, _) => {
                if length != 1 {
                    return Err(Alert::DECODE_ERROR);
                }
                let asked = match rest {
                    [] => break,
                    [0] => false,
                    [1] => true,
                    [_] => return Err(Alert::ILLEGAL_PARAMETER),
                    // The key changes behind it: it must end its record (RFC 8446, 5.1).
                    _ => return Err(Alert::UNEXPECTED_MESSAGE),
                };
                session.partial_bytes = 0;
                session.advance(Way::Rx)?;
                if asked {
                    session.flags |= UPDATE_OWED;
                }
                found.update = Some(asked);
                rest = &[];
            }
            (NEW_SESSION_TICKET, Side::Client) if length <= TICKET_MAX => {
                session.partial_bytes = 0;
                if fresh && rest.len() >= length {
                    rest = &rest[length..];
                    let end = message_at + MESSAGE_HEAD + length;
                    found.tickets = Some(found.tickets.map_or(message_at, |t| t.start)..end);
                } else {
                    session.set_skip(length as u32);
                }
            }
            (NEW_SESSION_TICKET, Side::Client) => return Err(Alert::DECODE_ERROR),
            _ => return Err(Alert::UNEXPECTED_MESSAGE),
        }
    }
    Ok(found)
}

fn message_bytes(head: &[u8; MESSAGE_HEAD]) -> usize {
    u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize
}
