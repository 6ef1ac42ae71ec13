//! What a running module holds in its hands.

use core::marker::PhantomData;
use core::net::IpAddr;

use super::access_log::LogRecord;
use super::answer::Answer;
use super::edit::{Edits, HeadEdit};
use super::fields::Fields;
use super::program::Module;
use super::view::{RequestView, ResponseView};
use crate::http1::{Full, HeadSink, Method, Scheme};
use crate::tls::certs::Identity;

/// What comes after a module.
#[derive(Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next module.
    Go,
    /// The answer that it gave. Only [`Ctx::answer`] makes one.
    Answer(Answered),
}

/// That an answer was given.
#[derive(Debug, PartialEq, Eq)]
pub struct Answered(());

/// What a phase is about. Lent to its modules one after another.
pub(super) struct Scene<'a> {
    pub request: &'a RequestView<'a>,
    pub response: Option<&'a ResponseView<'a>>,
    pub record: Option<&'a LogRecord<'a>>,
}

/// What the modules of a phase have written.
#[derive(Default)]
pub(super) struct Out<'p> {
    pub edits: Edits<'p>,
    pub answer: Option<Answer<'p>>,
    pub sink: Option<&'p mut dyn HeadSink>,
    pub full: bool,
}

/// What the module `M` may see and do: what it declared. Anything else does not compile.
///
/// ```
/// # use l7::phases::*;
/// struct OnlyHost;
/// impl Module for OnlyHost {
///     const NAME: &'static str = "only_host";
///     const PHASE: Phase = Phase::Request;
///     const READS: Fields = Fields::HOST;
///     const WRITES: Fields = Fields::NONE;
///     fn run<'p>(&'p self, ctx: &mut Ctx<'_, 'p, Self>) -> Flow {
///         let _ = ctx.host();
///         Flow::Go
///     }
/// }
/// # fn main() { let _ = Program::builder().with(OnlyHost); }
/// ```
///
/// The same module, reading what it did not declare:
///
/// ```compile_fail,E0080
/// # use l7::phases::*;
/// struct OnlyHost;
/// impl Module for OnlyHost {
///     const NAME: &'static str = "only_host";
///     const PHASE: Phase = Phase::Request;
///     const READS: Fields = Fields::HOST;
///     const WRITES: Fields = Fields::NONE;
///     fn run<'p>(&'p self, ctx: &mut Ctx<'_, 'p, Self>) -> Flow {
///         let _ = ctx.path();
///         Flow::Go
///     }
/// }
/// # fn main() { let _ = Program::builder().with(OnlyHost); }
/// ```
///
/// Writing what it did not declare:
///
/// ```compile_fail,E0080
/// # use l7::phases::*;
/// struct OnlyHost;
/// impl Module for OnlyHost {
///     const NAME: &'static str = "only_host";
///     const PHASE: Phase = Phase::Request;
///     const READS: Fields = Fields::HOST;
///     const WRITES: Fields = Fields::NONE;
///     fn run<'p>(&'p self, ctx: &mut Ctx<'_, 'p, Self>) -> Flow {
///         let _ = ctx.host();
///         ctx.answer(Answer::Error(403))
///     }
/// }
/// # fn main() { let _ = Program::builder().with(OnlyHost); }
/// ```
///
/// Declaring what its phase does not have:
///
/// ```compile_fail,E0080
/// # use l7::phases::*;
/// struct OnlyHost;
/// impl Module for OnlyHost {
///     const NAME: &'static str = "only_host";
///     const PHASE: Phase = Phase::Connection;
///     const READS: Fields = Fields::HOST;
///     const WRITES: Fields = Fields::NONE;
///     fn run<'p>(&'p self, ctx: &mut Ctx<'_, 'p, Self>) -> Flow {
///         let _ = ctx.host();
///         Flow::Go
///     }
/// }
/// # fn main() { let _ = Program::builder().with(OnlyHost); }
/// ```
pub struct Ctx<'a, 'p, M> {
    scene: &'a Scene<'a>,
    out: &'a mut Out<'p>,
    /// Whether this module has put an edit on the list.
    has_edited: bool,
    module: PhantomData<fn(M)>,
}

/// A compile error unless the module `M` declared the field.
macro_rules! declared {
    ($set:ident, $field:ident) => {
        const {
            assert!(
                M::$set.has(Fields::$field),
                concat!("the module does not declare ", stringify!($set), ": ", stringify!($field))
            )
        }
    };
}

impl<'a, 'p, M: Module> Ctx<'a, 'p, M> {
    pub(super) fn new(scene: &'a Scene<'a>, out: &'a mut Out<'p>) -> Self {
        const {
            assert!(M::PHASE.readable().has(M::READS), "the module reads what its phase does not have");
            assert!(M::PHASE.writable().has(M::WRITES), "the module writes what its phase does not have");
        }
        Self { scene, out, has_edited: false, module: PhantomData }
    }

    /// The client's address.
    pub fn client_ip(&self) -> IpAddr {
        declared!(READS, CLIENT_IP);
        self.scene.request.client_ip
    }

    /// What the client's connection is.
    pub fn scheme(&self) -> Scheme {
        declared!(READS, SCHEME);
        self.scene.request.scheme
    }

    /// Who the client is by the certificate that it has shown and that was verified. `None`: it was not asked, or has none.
    pub fn client_identity(&self) -> Option<&'a Identity> {
        declared!(READS, IDENTITY);
        self.scene.request.identity
    }

    /// The method.
    pub fn method(&self) -> Method {
        declared!(READS, METHOD);
        self.scene.request.method
    }

    /// The host, without port, case as written.
    pub fn host(&self) -> &'a [u8] {
        declared!(READS, HOST);
        self.scene.request.host
    }

    /// The path as it was written.
    pub fn path(&self) -> &'a [u8] {
        declared!(READS, PATH);
        self.scene.request.path
    }

    /// The path as routes are found by it: what to decide on.
    pub fn clean_path(&self) -> &'a [u8] {
        declared!(READS, PATH);
        self.scene.request.clean_path
    }

    /// The query, if there is one.
    pub fn query(&self) -> Option<&'a [u8]> {
        declared!(READS, QUERY);
        self.scene.request.query
    }

    /// The first value of a header line of the request.
    pub fn request_header(&self, name: &[u8]) -> Option<&'a [u8]> {
        declared!(READS, REQUEST_HEADERS);
        self.scene.request.headers?.get(name)
    }

    /// The status of the response.
    pub fn status(&self) -> u16 {
        declared!(READS, STATUS);
        self.scene.response.map_or(0, |response| response.status)
    }

    /// The first value of a header line of the response.
    pub fn response_header(&self, name: &[u8]) -> Option<&'a [u8]> {
        declared!(READS, RESPONSE_HEADERS);
        self.scene.response?.headers?.get(name)
    }

    /// What is known at the end.
    pub fn record(&self) -> Option<&'a LogRecord<'a>> {
        declared!(READS, RECORD);
        self.scene.record
    }

    /// Answers instead of going on. `return ctx.answer(…)`: what it gives has to be what `run` gives.
    pub fn answer(&mut self, answer: Answer<'p>) -> Flow {
        declared!(WRITES, ANSWER);
        self.out.answer = Some(answer);
        Flow::Answer(Answered(()))
    }

    /// Edits the header lines that go to the origin. One edit for each run of a module: the last one counts.
    pub fn edit_origin_request(&mut self, edit: &'p HeadEdit) {
        declared!(WRITES, ORIGIN_REQUEST);
        self.edit(edit);
    }

    /// Edits the header lines of the response. One edit for each run of a module: the last one counts.
    pub fn edit_response(&mut self, edit: &'p HeadEdit) {
        declared!(WRITES, RESPONSE);
        self.edit(edit);
    }

    /// Adds a part to the cache key. Parts are not separated: a module puts its own name and lengths where
    /// two requests could else come out alike.
    pub fn key_part(&mut self, part: &[u8]) {
        declared!(WRITES, CACHE_KEY);
        self.put(|sink| sink.put(part));
    }

    /// Writes to the log, whole lines.
    pub fn log_line(&mut self, write: impl FnOnce(&mut dyn HeadSink) -> Result<(), Full>) {
        declared!(WRITES, LOG_LINE);
        self.put(write);
    }

    fn put(&mut self, write: impl FnOnce(&mut dyn HeadSink) -> Result<(), Full>) {
        if let Some(sink) = self.out.sink.as_deref_mut() {
            self.out.full |= write(sink).is_err();
        }
    }

    fn edit(&mut self, edit: &'p HeadEdit) {
        if core::mem::replace(&mut self.has_edited, true) {
            self.out.edits.pop();
        }
        // There is room: a program has no more modules that edit than the list has places.
        let _ = self.out.edits.try_push(edit);
    }
}
