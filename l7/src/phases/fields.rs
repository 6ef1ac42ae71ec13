//! Phases, and the fields that modules declare. All of it is known when the modules are compiled.

/// Where in the life of a request a module runs. Phases run in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Phase {
    /// A connection was accepted; there is no request yet, so there is no site either. Of the listener.
    Connection,
    /// The head is there and the route is known. May answer at once.
    Request,
    /// The cache key is put together.
    CacheKey,
    /// The request goes to an origin: the cache had no answer.
    OriginRequest,
    /// The origin's head is there. What is edited here is what is stored.
    OriginResponse,
    /// A response goes to the client, from wherever it came: origin, cache, or an answer of ours.
    Response,
    /// The response has been sent, or broken off.
    Log,
}

impl Phase {
    /// How many there are.
    pub const COUNT: usize = 7;

    /// All of them, in order.
    pub const ALL: [Phase; Phase::COUNT] = [
        Phase::Connection,
        Phase::Request,
        Phase::CacheKey,
        Phase::OriginRequest,
        Phase::OriginResponse,
        Phase::Response,
        Phase::Log,
    ];

    /// What there is to read in this phase. The header lines of a request are gone once it went to the origin.
    pub const fn readable(self) -> Fields {
        const CONNECTION: Fields = Fields::CLIENT_IP.and(Fields::SCHEME);
        const KEPT: Fields = CONNECTION
            .and(Fields::IDENTITY)
            .and(Fields::METHOD)
            .and(Fields::HOST)
            .and(Fields::PATH)
            .and(Fields::QUERY);
        match self {
            Phase::Connection => CONNECTION,
            Phase::Request | Phase::CacheKey | Phase::OriginRequest => KEPT.and(Fields::REQUEST_HEADERS),
            Phase::OriginResponse | Phase::Response => KEPT.and(Fields::STATUS).and(Fields::RESPONSE_HEADERS),
            Phase::Log => KEPT.and(Fields::STATUS).and(Fields::RECORD),
        }
    }

    /// What can be written in this phase.
    pub const fn writable(self) -> Fields {
        match self {
            Phase::Connection | Phase::Request => Fields::ANSWER,
            Phase::CacheKey => Fields::CACHE_KEY,
            Phase::OriginRequest => Fields::ORIGIN_REQUEST,
            Phase::OriginResponse | Phase::Response => Fields::RESPONSE,
            Phase::Log => Fields::LOG_LINE,
        }
    }
}

/// A set of things that a module reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields(u32);

impl Fields {
    /// Nothing.
    pub const NONE: Fields = Fields(0);
    /// Read: the client's address.
    pub const CLIENT_IP: Fields = Fields(1 << 0);
    /// Read: whether the client came over TLS.
    pub const SCHEME: Fields = Fields(1 << 1);
    /// Read: the method.
    pub const METHOD: Fields = Fields(1 << 2);
    /// Read: the host that the request is for.
    pub const HOST: Fields = Fields(1 << 3);
    /// Read: the path.
    pub const PATH: Fields = Fields(1 << 4);
    /// Read: the query.
    pub const QUERY: Fields = Fields(1 << 5);
    /// Read: header lines of the request.
    pub const REQUEST_HEADERS: Fields = Fields(1 << 6);
    /// Read: the status of the response.
    pub const STATUS: Fields = Fields(1 << 7);
    /// Read: header lines of the response.
    pub const RESPONSE_HEADERS: Fields = Fields(1 << 8);
    /// Read: what is known at the end.
    pub const RECORD: Fields = Fields(1 << 9);
    /// Read: who the client is by its certificate.
    pub const IDENTITY: Fields = Fields(1 << 10);
    /// Write: answer instead of going on.
    pub const ANSWER: Fields = Fields(1 << 16);
    /// Write: parts of the cache key.
    pub const CACHE_KEY: Fields = Fields(1 << 17);
    /// Write: the header lines that go to the origin.
    pub const ORIGIN_REQUEST: Fields = Fields(1 << 18);
    /// Write: the header lines of the response.
    pub const RESPONSE: Fields = Fields(1 << 19);
    /// Write: a line of a log.
    pub const LOG_LINE: Fields = Fields(1 << 20);

    /// Both.
    #[must_use]
    pub const fn and(self, more: Fields) -> Fields {
        Fields(self.0 | more.0)
    }

    /// Whether all of `part` is in it.
    pub const fn has(self, part: Fields) -> bool {
        self.0 & part.0 == part.0
    }
}
