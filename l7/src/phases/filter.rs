//! Which requests a module runs for.

use super::fields::Phase;
use super::view::{RequestView, ResponseView};
use crate::http1::Method;

/// A set of methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods(u16);

impl Methods {
    /// Every method.
    pub const ALL: Methods = Methods(u16::MAX);

    /// These.
    pub fn of(methods: &[Method]) -> Self {
        Methods(methods.iter().fold(0, |set, &method| set | 1 << method as u8))
    }

    /// Whether `method` is one of them.
    pub fn has(self, method: Method) -> bool {
        self.0 & (1 << method as u8) != 0
    }
}

/// What has to be true of a request, all of it, for a module to run. [`Filter::ALWAYS`] asks for nothing. Which
/// sites and routes a module runs for is no question for a filter: it is in their programs or it is not.
#[derive(Clone, Debug)]
pub struct Filter {
    /// One of these methods.
    pub methods: Methods,
    /// The path begins with this, byte for byte, as routes see it ([`super::CleanPath`]).
    pub path_prefix: Option<Box<[u8]>>,
    /// The request has a header line of this name. Not to be asked after [`Phase::OriginRequest`].
    pub header: Option<Box<[u8]>>,
    /// The status is in this range. Not to be asked before [`Phase::OriginResponse`].
    pub status: Option<(u16, u16)>,
}

impl Filter {
    /// Asks for nothing.
    pub const ALWAYS: Filter =
        Filter { methods: Methods::ALL, path_prefix: None, header: None, status: None };

    /// Whether this filter can be evaluated in `phase`.
    pub(super) fn fits(&self, phase: Phase) -> bool {
        let asks_of_request = self.methods != Methods::ALL || self.path_prefix.is_some();
        match phase {
            Phase::Connection => !asks_of_request && self.header.is_none() && self.status.is_none(),
            Phase::Request | Phase::CacheKey | Phase::OriginRequest => self.status.is_none(),
            Phase::OriginResponse | Phase::Response | Phase::Log => self.header.is_none(),
        }
    }

    /// Whether the module runs.
    pub(super) fn admits(&self, request: &RequestView<'_>, response: Option<&ResponseView<'_>>) -> bool {
        self.methods.has(request.method)
            && self.path_prefix.as_ref().is_none_or(|prefix| request.clean_path.starts_with(prefix))
            && self
                .header
                .as_ref()
                .is_none_or(|name| request.headers.is_some_and(|headers| headers.get(name).is_some()))
            && self.status.is_none_or(|(from, to)| {
                response.is_some_and(|response| (from..=to).contains(&response.status))
            })
    }
}

impl Default for Filter {
    fn default() -> Self {
        Filter::ALWAYS
    }
}
