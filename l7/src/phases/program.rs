//! Modules, and the programs that the modules of a route are compiled to.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::access_log::LogRecord;
use super::answer::Answer;
use super::ctx::{Ctx, Flow, Out, Scene};
use super::edit::{EDITS_MAX, Edits};
use super::fields::{Fields, Phase};
use super::filter::Filter;
use super::view::{RequestView, ResponseView};
use crate::http1::{Full, HeadSink, Method, Scheme};

/// A piece of L7 logic. See [`Ctx`] for what the declarations are for.
pub trait Module: Send + Sync + 'static {
    /// What it is called in configs, errors and docs.
    const NAME: &'static str;
    /// When it runs.
    const PHASE: Phase;
    /// What it looks at.
    const READS: Fields;
    /// What it changes.
    const WRITES: Fields;

    /// Which requests it runs for. Asked once, when a program is built.
    fn filter(&self) -> Filter {
        Filter::ALWAYS
    }

    /// Runs for one request.
    fn run<'p>(&'p self, ctx: &mut Ctx<'_, 'p, Self>) -> Flow
    where
        Self: Sized;
}

/// A [`Module`] whose type is forgotten.
trait Erased: Send + Sync {
    fn run<'p>(&'p self, scene: &Scene<'_>, out: &mut Out<'p>) -> Flow;
}

impl<M: Module> Erased for M {
    fn run<'p>(&'p self, scene: &Scene<'_>, out: &mut Out<'p>) -> Flow {
        Module::run(self, &mut Ctx::new(scene, out))
    }
}

/// A module in its place.
struct Slot {
    filter: Filter,
    module: Arc<dyn Erased>,
    name: &'static str,
}

/// The modules of one route (or of a listener: the connection phase). Built when a config is loaded; after that
/// only read.
#[derive(Default)]
pub struct Program {
    phases: [Box<[Slot]>; Phase::COUNT],
}

impl Program {
    /// An empty one, to be filled.
    pub fn builder() -> ProgramBuilder {
        ProgramBuilder::default()
    }

    /// Whether a phase has no modules.
    #[inline]
    pub fn is_empty(&self, phase: Phase) -> bool {
        self.phases[phase as usize].is_empty()
    }

    /// The names of the modules of a phase, in order.
    pub fn names(&self, phase: Phase) -> impl Iterator<Item = &'static str> {
        self.phases[phase as usize].iter().map(|slot| slot.name)
    }

    /// A connection was accepted. Any answer means: refuse it.
    #[inline]
    pub fn connection(&self, client_ip: IpAddr, scheme: Scheme) -> Option<Answer<'_>> {
        if self.is_empty(Phase::Connection) {
            return None;
        }
        let request = RequestView { client_ip, scheme, ..NO_REQUEST };
        self.run(Phase::Connection, &request, None, None, None).answer
    }

    /// A request is there. `Some`: answer it with this.
    #[inline]
    pub fn request(&self, request: &RequestView<'_>) -> Option<Answer<'_>> {
        if self.is_empty(Phase::Request) {
            return None;
        }
        self.run(Phase::Request, request, None, None, None).answer
    }

    /// Puts the modules' parts of the cache key into `sink`. [`Full`]: the request cannot be cached.
    #[inline]
    pub fn cache_key<'p>(
        &'p self,
        request: &RequestView<'_>,
        sink: &'p mut dyn HeadSink,
    ) -> Result<(), Full> {
        if self.is_empty(Phase::CacheKey) {
            return Ok(());
        }
        let out = self.run(Phase::CacheKey, request, None, None, Some(sink));
        if out.full { Err(Full) } else { Ok(()) }
    }

    /// The edits of a request that goes to an origin.
    #[inline]
    pub fn origin_request(&self, request: &RequestView<'_>) -> Edits<'_> {
        if self.is_empty(Phase::OriginRequest) {
            return Edits::new();
        }
        self.run(Phase::OriginRequest, request, None, None, None).edits
    }

    /// The edits of a response that came from an origin: they come before those of [`Self::response`] and go
    /// into the cache.
    #[inline]
    pub fn origin_response(&self, request: &RequestView<'_>, response: &ResponseView<'_>) -> Edits<'_> {
        if self.is_empty(Phase::OriginResponse) {
            return Edits::new();
        }
        self.run(Phase::OriginResponse, request, Some(response), None, None).edits
    }

    /// The edits of a response that goes to a client.
    #[inline]
    pub fn response(&self, request: &RequestView<'_>, response: &ResponseView<'_>) -> Edits<'_> {
        if self.is_empty(Phase::Response) {
            return Edits::new();
        }
        self.run(Phase::Response, request, Some(response), None, None).edits
    }

    /// Writes the lines of the logs into `sink`. [`Full`]: something had no room.
    #[inline]
    pub fn log<'p>(
        &'p self,
        request: &RequestView<'_>,
        response: &ResponseView<'_>,
        record: &LogRecord<'_>,
        sink: &'p mut dyn HeadSink,
    ) -> Result<(), Full> {
        if self.is_empty(Phase::Log) {
            return Ok(());
        }
        let out = self.run(Phase::Log, request, Some(response), Some(record), Some(sink));
        if out.full { Err(Full) } else { Ok(()) }
    }

    /// Out of line, so that an empty phase leaves only its test in the caller.
    #[inline(never)]
    fn run<'p>(
        &'p self,
        phase: Phase,
        request: &RequestView<'_>,
        response: Option<&ResponseView<'_>>,
        record: Option<&LogRecord<'_>>,
        sink: Option<&'p mut dyn HeadSink>,
    ) -> Out<'p> {
        let scene = Scene { request, response, record };
        let mut out = Out { sink, ..Out::default() };
        for slot in &self.phases[phase as usize] {
            if slot.filter.admits(request, response) && slot.module.run(&scene, &mut out) != Flow::Go {
                break;
            }
        }
        out
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(Phase::ALL.map(|phase| (phase, self.names(phase).collect::<Vec<_>>()))).finish()
    }
}

/// Before there is a request.
const NO_REQUEST: RequestView<'static> = RequestView {
    client_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    scheme: Scheme::Http,
    identity: None,
    method: Method::Extension,
    host: b"",
    path: b"",
    clean_path: b"",
    query: None,
    headers: None,
};

/// Puts a [`Program`] together. Modules of a phase run in the order in which they are added.
#[derive(Default)]
pub struct ProgramBuilder {
    phases: [Vec<Slot>; Phase::COUNT],
}

impl ProgramBuilder {
    /// Adds a module.
    pub fn with<M: Module>(self, module: M) -> Result<Self, ProgramError> {
        self.share(Arc::new(module))
    }

    /// Adds a module that several routes have.
    pub fn share<M: Module>(mut self, module: Arc<M>) -> Result<Self, ProgramError> {
        let filter = module.filter();
        if !filter.fits(M::PHASE) {
            return Err(ProgramError::FilterOutOfPhase(M::NAME));
        }
        let slots = &mut self.phases[M::PHASE as usize];
        if slots.len() == EDITS_MAX {
            return Err(ProgramError::TooManyModules(M::PHASE));
        }
        slots.push(Slot { filter, module, name: M::NAME });
        Ok(self)
    }

    /// The program.
    pub fn build(self) -> Program {
        Program { phases: self.phases.map(Vec::into_boxed_slice) }
    }
}

/// Why a program cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramError {
    /// The filter of the module of this name asks for what is not there in its phase.
    FilterOutOfPhase(&'static str),
    /// A phase has more than [`EDITS_MAX`] modules.
    TooManyModules(Phase),
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FilterOutOfPhase(name) => {
                write!(f, "the filter of {name} asks for something that is not known when it runs")
            }
            Self::TooManyModules(phase) => {
                write!(f, "more than {EDITS_MAX} modules in the phase {phase:?} of one route")
            }
        }
    }
}

impl core::error::Error for ProgramError {}
