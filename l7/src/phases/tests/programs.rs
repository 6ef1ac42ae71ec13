//! Programs: order, filters, answers, what is refused; and what each phase hands out.

use super::*;
use crate::http1::Version;
use crate::phases::filter::Methods;
use crate::tls::certs::Identity;

/// Adds its number to the cache key.
struct Number(u8, Filter);

impl Module for Number {
    const NAME: &'static str = "number";
    const PHASE: Phase = Phase::CacheKey;
    const READS: Fields =
        Fields::REQUEST_HEADERS.and(Fields::QUERY).and(Fields::METHOD).and(Fields::CLIENT_IP);
    const WRITES: Fields = Fields::CACHE_KEY;

    fn filter(&self) -> Filter {
        self.1.clone()
    }

    fn run<'p>(&'p self, ctx: &mut Ctx<'_, 'p, Self>) -> Flow {
        assert_eq!(ctx.client_ip(), CLIENT);
        ctx.key_part(&[self.0]);
        if let Some(value) = ctx.request_header(b"x-key") {
            ctx.key_part(value);
        }
        Flow::Go
    }
}

fn key(program: &Program, request: &str) -> String {
    with_view(request, Scheme::Http, |view| written(|sink| program.cache_key(view, sink)))
}

fn numbers(filters: impl IntoIterator<Item = Filter>) -> Program {
    (b'a'..)
        .zip(filters)
        .try_fold(Program::builder(), |builder, (number, filter)| builder.with(Number(number, filter)))
        .expect("a good program")
        .build()
}

#[test]
fn modules_run_in_order_where_their_filter_admits() {
    let program = numbers([
        Filter::ALWAYS,
        Filter { methods: Methods::of(&[Method::Get, Method::Head]), ..Filter::ALWAYS },
        Filter { path_prefix: Some((*b"/api").into()), ..Filter::ALWAYS },
        Filter { header: Some((*b"X-Key").into()), ..Filter::ALWAYS },
        Filter {
            methods: Methods::of(&[Method::Post]),
            path_prefix: Some((*b"/api").into()),
            header: Some((*b"x-key").into()),
            status: None,
        },
    ]);
    for (request, want) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "ab"),
        ("PUT / HTTP/1.1\r\nHost: a\r\n\r\n", "a"),
        ("PUT /x/../%61pi HTTP/1.1\r\nHost: a\r\n\r\n", "ac"),
        ("PUT / HTTP/1.1\r\nHost: a\r\nx-KEY: 1\r\n\r\n", "a1d1"),
        ("POST /apis HTTP/1.1\r\nHost: a\r\nx-KEY: 1\r\n\r\n", "a1c1d1e1"),
    ] {
        assert_eq!(key(&program, request), want, "{request}");
    }
    assert_eq!(program.names(Phase::CacheKey).collect::<Vec<_>>(), ["number"; 5]);
    assert!(!program.is_empty(Phase::CacheKey) && program.is_empty(Phase::Request));
}

#[test]
fn a_key_without_room_is_told() {
    let program = numbers([Filter::ALWAYS]);
    with_view("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Scheme::Http, |view| {
        let mut sink = SliceSink::new(&mut []);
        assert!(program.cache_key(view, &mut sink).is_err());
        assert!(Program::default().cache_key(view, &mut sink).is_ok());
    });
}

/// Answers with its status.
struct Deny(u16);

impl Module for Deny {
    const NAME: &'static str = "deny";
    const PHASE: Phase = Phase::Request;
    const READS: Fields = Fields::NONE;
    const WRITES: Fields = Fields::ANSWER;

    fn run<'p>(&'p self, ctx: &mut Ctx<'_, 'p, Self>) -> Flow {
        ctx.answer(Answer::Error(self.0))
    }
}

/// Refuses one client.
struct Refuse;

impl Module for Refuse {
    const NAME: &'static str = "refuse";
    const PHASE: Phase = Phase::Connection;
    const READS: Fields = Fields::CLIENT_IP.and(Fields::SCHEME);
    const WRITES: Fields = Fields::ANSWER;

    fn run<'p>(&'p self, ctx: &mut Ctx<'_, 'p, Self>) -> Flow {
        if ctx.client_ip() == CLIENT && ctx.scheme() == Scheme::Http {
            return ctx.answer(Answer::Close);
        }
        Flow::Go
    }
}

/// For one client only, by its certificate.
struct Only(&'static str);

impl Module for Only {
    const NAME: &'static str = "only";
    const PHASE: Phase = Phase::Request;
    const READS: Fields = Fields::IDENTITY;
    const WRITES: Fields = Fields::ANSWER;

    fn run<'p>(&'p self, ctx: &mut Ctx<'_, 'p, Self>) -> Flow {
        match ctx.client_identity() {
            Some(identity) if identity.subject == self.0 => Flow::Go,
            _ => ctx.answer(Answer::Error(403)),
        }
    }
}

#[test]
fn a_module_knows_who_the_client_is() {
    let program = Program::builder().with(Only("CN=somebody")).unwrap().build();
    with_view("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Scheme::Https, |view| {
        let of = |subject: &str| Identity {
            subject: subject.into(),
            common_name: None,
            issuer: String::new(),
            serial: "01".into(),
            names: Vec::new(),
            fingerprint: [0; 32],
        };
        let asked = |identity: Option<&Identity>| program.request(&view.by(identity)).is_none();
        assert!(asked(Some(&of("CN=somebody"))));
        assert!(!asked(Some(&of("CN=somebody else"))) && !asked(None));
    });
}

#[test]
fn the_first_answer_ends_the_phase() {
    let program =
        Program::builder().with(Deny(403)).unwrap().with(Deny(404)).unwrap().with(Refuse).unwrap().build();
    with_view("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Scheme::Http, |view| {
        assert!(matches!(program.request(view), Some(Answer::Error(403))));
        assert!(Program::default().request(view).is_none());
    });
    assert!(matches!(program.connection(CLIENT, Scheme::Http), Some(Answer::Close)));
    assert!(program.connection(CLIENT, Scheme::Https).is_none());
    assert_eq!(
        format!("{program:?}"),
        "{Connection: [\"refuse\"], Request: [\"deny\", \"deny\"], CacheKey: [], OriginRequest: [], \
         OriginResponse: [], Response: [], Log: []}"
    );
}

/// Edits twice: the second counts.
struct Twice(HeadEdit, HeadEdit);

impl Module for Twice {
    const NAME: &'static str = "twice";
    const PHASE: Phase = Phase::Response;
    const READS: Fields = Fields::STATUS.and(Fields::RESPONSE_HEADERS);
    const WRITES: Fields = Fields::RESPONSE;

    fn filter(&self) -> Filter {
        Filter { status: Some((200, 299)), ..Filter::ALWAYS }
    }

    fn run<'p>(&'p self, ctx: &mut Ctx<'_, 'p, Self>) -> Flow {
        assert_eq!((ctx.status(), ctx.response_header(b"a")), (204, Some(&b"1"[..])));
        ctx.edit_response(&self.0);
        ctx.edit_response(&self.1);
        Flow::Go
    }
}

#[test]
fn one_edit_for_each_module() {
    let edit = |value| HeadEdit::new(Message::Response, &spec(&[("B", value)], &[], &[])).unwrap();
    let module = std::sync::Arc::new(Twice(edit("1"), edit("2")));
    let mut builder = Program::builder();
    for _ in 0..edit::EDITS_MAX {
        builder = builder.share(module.clone()).unwrap();
    }
    assert_eq!(builder.share(module.clone()).map(|_| ()), Err(ProgramError::TooManyModules(Phase::Response)));
    let program = Program::builder().share(module.clone()).unwrap().share(module).unwrap().build();
    with_view("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Scheme::Http, |view| {
        with_response("HTTP/1.1 204 No\r\nA: 1\r\n\r\n", |head| {
            let response = ResponseView { status: 204, headers: Some(head.headers()) };
            let edits = program.response(view, &response);
            let vars = view.vars();
            assert_eq!(edits.len(), 2);
            assert_eq!(written(|sink| EditList { edits: &edits, vars }.append(sink)), "B: 2\r\n");
            let not_found = ResponseView { status: 404, headers: None };
            assert!(program.response(view, &not_found).is_empty());
        });
    });
}

#[test]
fn a_filter_cannot_ask_for_what_is_not_there() {
    let log = |filter| Program::builder().with(AccessLog::new(LogFormat::Text, filter)).map(|_| ());
    let refused = Err(ProgramError::FilterOutOfPhase("access_log"));
    assert_eq!(log(Filter { header: Some((*b"a").into()), ..Filter::ALWAYS }), refused);
    assert_eq!(log(Filter { status: Some((500, 599)), ..Filter::ALWAYS }), Ok(()));
    let early = Number(0, Filter { status: Some((500, 599)), ..Filter::ALWAYS });
    assert_eq!(Program::builder().with(early).map(|_| ()), Err(ProgramError::FilterOutOfPhase("number")));
}

#[test]
fn the_log_gets_a_line_from_each_module() {
    let only_errors = Filter { status: Some((500, 599)), ..Filter::ALWAYS };
    let program = Program::builder()
        .with(AccessLog::new(LogFormat::Text, Filter::ALWAYS))
        .unwrap()
        .with(AccessLog::new(LogFormat::Json, only_errors))
        .unwrap()
        .build();
    with_view("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Scheme::Http, |view| {
        for (status, lines) in [(200, 1), (502, 2)] {
            let record = LogRecord {
                unix_us: 0,
                client: CLIENT,
                method: b"GET",
                target: b"/",
                host: b"a",
                version: Version::Http11,
                status,
                body_bytes: 0,
                cache: b"",
                origin: None,
                timings: Timings::start(0),
                user_agent: b"",
                referer: b"",
                request_id: 1,
            };
            let response = ResponseView { status, headers: None };
            let text = written(|sink| program.log(view, &response, &record, sink));
            assert_eq!(text.lines().count(), lines);
        }
    });
}
