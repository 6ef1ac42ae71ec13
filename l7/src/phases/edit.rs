//! Edits of header lines: set, add and remove, compiled when a config is loaded.
//!
//! What may go is in a perfect hash table (exact names) and a radix tree (`X-Internal-*`), both without regard to
//! case; what is added is rendered beforehand, up to its variables. A line that an edit adds is subject to the
//! edits after it, never to its own: `set` is remove and add.
//!
//! The fields that frame a message or that the node answers for itself cannot be edited ([`EditFault::Reserved`]),
//! and a wildcard that covers them leaves them alone. An exact name also stands for the line of that name that the
//! node would add (`X-Forwarded-*`, and `Via` in a response); a wildcard takes only lines that came with the
//! message.

use core::fmt;

use arrayvec::ArrayVec;

use super::table::Table;
use super::template::{self, Piece, TemplateFault};
use super::trie::Trie;
use crate::http1::bytes::{self, TOKEN};
use crate::http1::rewrite::{Editing, pass_on};
use crate::http1::{FieldName, Full, HeadSink, Headers};

pub use super::template::Vars;

/// The most edits that one message has.
pub const EDITS_MAX: usize = 8;

/// The edits of one message, in order.
pub type Edits<'p> = ArrayVec<&'p HeadEdit, EDITS_MAX>;

/// What a head edit is to do, as a config says it. Names in any case; values may have variables.
#[derive(Clone, Debug, Default)]
pub struct EditSpec {
    /// Lines that replace every line of their name.
    pub set: Vec<(String, String)>,
    /// Lines that come on top.
    pub add: Vec<(String, String)>,
    /// Names of lines that go; `X-Internal-*` is every name that begins so.
    pub remove: Vec<String>,
}

/// Which message an edit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A request to an origin.
    Request,
    /// A response to a client.
    Response,
}

/// A compiled edit of a head.
#[derive(Debug)]
pub struct HeadEdit {
    exact: Table,
    prefixes: Trie<true>,
    /// Bit n: the field of this number is never removed.
    reserved: u64,
    lines: Box<[Line]>,
    pieces: Box<[Piece]>,
    text: Box<[u8]>,
}

/// A line that is added. Its pieces end where those of the next line begin.
#[derive(Debug)]
struct Line {
    name: Box<[u8]>,
    known: FieldName,
    /// It is left out for clients that have shown no certificate.
    needs_identity: bool,
    pieces: (u32, u32),
}

impl HeadEdit {
    /// Compiles an edit.
    pub fn new(message: Message, spec: &EditSpec) -> Result<HeadEdit, EditError> {
        let (mut exact, mut prefixes) = (Vec::new(), Vec::new());
        for name in &spec.remove {
            let error = |fault| EditError { name: name.clone(), fault };
            match name.strip_suffix('*') {
                Some(prefix) if bytes::all(prefix.as_bytes(), TOKEN) && !prefix.contains('*') => {
                    prefixes.push(prefix.as_bytes());
                }
                Some(_) => return Err(error(EditFault::WildcardInvalid)),
                None => exact.push(checked_name(message, name).map_err(error)?),
            }
        }
        let (mut lines, mut pieces, mut text) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (name, value)) in spec.set.iter().chain(&spec.add).enumerate() {
            let error = |fault| EditError { name: name.clone(), fault };
            let checked = checked_name(message, name).map_err(error)?;
            if at < spec.set.len() {
                exact.push(checked);
            }
            if bytes::text_end(value.as_bytes(), 0) != value.len() {
                return Err(error(EditFault::ValueInvalid));
            }
            // Pieces of their own: each line can be left out.
            let mut own = Vec::new();
            template::put_text(name, &mut text, &mut own);
            template::put_text(": ", &mut text, &mut own);
            template::compile(value.trim_matches([' ', '\t']), &mut text, &mut own)
                .map_err(|fault| error(fault.into()))?;
            template::put_text("\r\n", &mut text, &mut own);
            lines.push((checked, pieces.len(), pieces.len() + own.len()));
            pieces.append(&mut own);
        }
        Ok(HeadEdit {
            exact: Table::new(exact.into_iter().map(|name| (name, 0))),
            prefixes: Trie::new(prefixes.into_iter().map(|prefix| (prefix, 0))),
            reserved: RESERVED
                .into_iter()
                .filter(|&known| is_reserved(message, known))
                .fold(0, |set, known| set | 1u64 << known as u8),
            lines: lines
                .into_iter()
                .map(|(name, from, to)| Line {
                    known: FieldName::of(name),
                    name: name.into(),
                    needs_identity: template::needs_identity(pieces.get(from..to).unwrap_or_default()),
                    pieces: (from as u32, to as u32),
                })
                .collect(),
            pieces: pieces.into(),
            text: text.into(),
        })
    }

    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty() && self.lines.is_empty()
    }

    /// Whether lines of this name go.
    #[inline]
    fn removes(&self, known: FieldName, name: &[u8]) -> bool {
        if self.reserved & 1u64 << known as u8 != 0 {
            return false;
        }
        (!self.exact.is_empty() && self.exact.get(name).is_some())
            || (!self.prefixes.is_empty() && self.prefixes.longest(name).is_some())
    }

    fn removes_exactly(&self, name: &[u8]) -> bool {
        self.exact.get(name).is_some()
    }
}

/// The edits of one message, and what the variables in them stand for.
#[derive(Clone, Copy, Debug)]
pub struct EditList<'a> {
    /// The edits, in order.
    pub edits: &'a [&'a HeadEdit],
    /// The variables.
    pub vars: Vars<'a>,
}

impl EditList<'_> {
    /// No edits.
    pub const NONE: EditList<'static> = EditList {
        edits: &[],
        vars: Vars {
            client_ip: core::net::IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED),
            scheme: crate::http1::Scheme::Http,
            host: b"",
            path: b"",
            identity: None,
        },
    };

    /// Whether the line of this name that the node would add itself is left out: because an edit removes or sets
    /// it by its whole name. For lines that a caller writes beside [`apply_edits`].
    pub fn replaces(&self, name: &[u8]) -> bool {
        self.edits.iter().any(|edit| edit.removes_exactly(name))
    }

    /// Writes the lines that the edits add.
    pub fn append(&self, sink: &mut (impl HeadSink + ?Sized)) -> Result<(), Full> {
        let mut later = self.edits;
        while let [edit, rest @ ..] = later {
            later = rest;
            for line in &edit.lines {
                if line.needs_identity && self.vars.identity.is_none() {
                    continue;
                }
                if later.iter().any(|edit| edit.removes(line.known, &line.name)) {
                    continue;
                }
                let pieces = edit.pieces.get(line.pieces.0 as usize..line.pieces.1 as usize);
                template::write(pieces.unwrap_or_default(), &edit.text, &self.vars, sink)?;
            }
        }
        Ok(())
    }
}

impl Editing for EditList<'_> {
    #[inline]
    fn drops(&self, known: FieldName, name: &[u8]) -> bool {
        self.edits.iter().any(|edit| edit.removes(known, name))
    }

    fn replaces(&self, name: &[u8]) -> bool {
        EditList::replaces(self, name)
    }

    fn append(&self, sink: &mut impl HeadSink) -> Result<(), Full> {
        EditList::append(self, sink)
    }
}

/// Writes the end-to-end lines of a stored response with the edits applied: what a cache hit needs between the
/// status line and the lines of its own. Reserved lines of the stored head (Content-Length, Date) are kept.
pub fn apply_edits(headers: &Headers<'_>, list: &EditList<'_>, sink: &mut impl HeadSink) -> Result<(), Full> {
    if list.edits.is_empty() {
        return pass_on(headers, sink, |_| true);
    }
    let buf = headers.buf();
    pass_on(headers, sink, |slot| !list.drops(slot.known, slot.name.of(buf)))?;
    EditList::append(list, sink)
}

/// Fields that frame a message, concern one hop, or are the node's own duty.
fn is_reserved(message: Message, known: FieldName) -> bool {
    match known {
        FieldName::Host | FieldName::Via | FieldName::Expect | FieldName::MaxForwards => {
            message == Message::Request
        }
        FieldName::ContentLength | FieldName::Trailer | FieldName::Date => true,
        _ => known.is_hop_by_hop(),
    }
}

/// All that [`is_reserved`] may name.
const RESERVED: [FieldName; 16] = [
    FieldName::Connection,
    FieldName::ContentLength,
    FieldName::Date,
    FieldName::Expect,
    FieldName::Host,
    FieldName::KeepAlive,
    FieldName::MaxForwards,
    FieldName::Proxy,
    FieldName::ProxyAuthenticate,
    FieldName::ProxyAuthorization,
    FieldName::ProxyConnection,
    FieldName::Te,
    FieldName::Trailer,
    FieldName::TransferEncoding,
    FieldName::Upgrade,
    FieldName::Via,
];

fn checked_name(message: Message, name: &str) -> Result<&[u8], EditFault> {
    let known = FieldName::of(name.as_bytes());
    if !bytes::all(name.as_bytes(), TOKEN) {
        Err(EditFault::NameInvalid)
    } else if is_reserved(message, known)
        || (message == Message::Response && name.eq_ignore_ascii_case("age"))
    {
        Err(EditFault::Reserved)
    } else {
        Ok(name.as_bytes())
    }
}

/// Why an edit cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditError {
    /// The name of the line, as the config has it.
    pub name: String,
    /// What is wrong.
    pub fault: EditFault,
}

/// What is wrong with a line of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditFault {
    /// Not the name of a header field.
    NameInvalid,
    /// The node sets this field itself.
    Reserved,
    /// A `*` that is not at the end, or has nothing before it.
    WildcardInvalid,
    /// A control byte in a value.
    ValueInvalid,
    /// `{…}` with a name that is none.
    UnknownVariable,
    /// A brace without its other half.
    BraceUnpaired,
}

impl From<TemplateFault> for EditFault {
    fn from(fault: TemplateFault) -> Self {
        match fault {
            TemplateFault::UnknownVariable => Self::UnknownVariable,
            TemplateFault::BraceUnpaired => Self::BraceUnpaired,
        }
    }
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.fault {
            EditFault::NameInvalid => write!(f, "`{name}` is not the name of a header field"),
            EditFault::Reserved => write!(f, "`{name}` cannot be edited: the node sets it itself"),
            EditFault::WildcardInvalid => {
                write!(f, "in `{name}` the `*` has to be at the end, with a part of a name before it")
            }
            EditFault::ValueInvalid => write!(f, "the value of `{name}` has a control character"),
            EditFault::UnknownVariable => write!(
                f,
                "the value of `{name}` has an unknown variable; there are {{client_ip}}, {{host}}, {{path}}, \
                 {{scheme}}, {{client_subject}}, {{client_issuer}}, {{client_serial}} and {{client_fingerprint}}, and \
                 {{{{ for a brace"
            ),
            EditFault::BraceUnpaired => {
                write!(
                    f,
                    "the value of `{name}` has a brace without its other half; {{{{ and }}}} are braces"
                )
            }
        }
    }
}

impl core::error::Error for EditError {}
