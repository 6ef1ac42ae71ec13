//! Once they are compiled, programs, edits, routes, answers, logs and PROXY headers allocate nothing.

use std::net::{IpAddr, Ipv4Addr};

use l7::http1::*;
use l7::phases::*;

use crate::malloc::assert_none;

const REQUEST: &[u8] = b"GET /a/../%61pi?c HTTP/1.1\r\nHost: x.b.example\r\nX-Internal-Id: 1\r\nA: b\r\n\r\n";
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\nX-Internal-Node: 1\r\nB: 2\r\n\r\n";
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

struct Node {
    router: Router,
    program: Program,
    elsewhere: Program,
    pages: ErrorPages,
}

fn node() -> Node {
    let pairs = |n: &str, v: &str| vec![(n.to_owned(), v.to_owned())];
    let request =
        EditSpec { set: pairs("Where", "{scheme}://{host}{path} {client_ip}"), ..EditSpec::default() };
    let response = EditSpec { add: pairs("X", "y"), remove: vec!["Server".into()], ..EditSpec::default() };
    let to = RedirectTo::Host("other.example".to_owned());
    let program = Program::builder()
        .with(RequestHeaders::new(&request, Filter::ALWAYS).expect("good"))
        .and_then(|p| p.with(ResponseHeaders::new(&response, Filter::ALWAYS).expect("good")))
        .and_then(|p| p.with(StripInternal::new(vec!["X-Internal-*".to_owned()]).expect("good")))
        .and_then(|p| p.with(AccessLog::new(LogFormat::Text, Filter::ALWAYS)))
        .and_then(|p| p.with(AccessLog::new(LogFormat::Json, Filter::ALWAYS)))
        .expect("good");
    let elsewhere =
        Program::builder().with(Redirect::new(301, &to, Filter::ALWAYS).expect("good")).expect("good");
    Node {
        router: Router::new([(vec!["a.example"], vec!["/"]), (vec!["*.b.example"], vec!["/", "/api"])]),
        program: program.build(),
        elsewhere: elsewhere.build(),
        pages: ErrorPages::new([("4xx", b"own".to_vec())]).expect("good"),
    }
}

fn exchange(node: &Node, slots: &mut [HeaderSlots; 2], room: &mut [u8]) {
    let limits = HttpLimits::default();
    let [up, down] = slots;
    let mut sink = SliceSink::new(room);
    let date = http_date::format(784_111_777);

    let parsed = parse_request(REQUEST, &mut HeadScan::new(), &limits, up);
    let Ok(Parsed::Complete(head, _)) = parsed else { panic!("a request") };
    let mut clean = [0; CleanPath::ROOM];
    let clean = CleanPath::of(head.path(), &mut clean).expect("a path");
    let site = node.router.site(head.host()).expect("a site");
    assert_eq!((site, node.router.route(site, clean)), (1, Some(1)));
    let view = RequestView::of(&head, Scheme::Https, CLIENT, clean);

    let error = ErrorContext { method: Some(view.method), version: None, close: true, date: &date };
    let answer = node.elsewhere.request(&view).expect("a redirect");
    for answer in [answer, Answer::Error(404), Answer::Error(503)] {
        write_answer(&answer, &view, &error, &node.pages, &EditList::NONE, &mut sink).expect("room");
    }
    assert!(node.program.request(&view).is_none());
    let to_origin = ToOrigin {
        client_ip: CLIENT,
        client_tls: true,
        identity: None,
        host: None,
        forward_expect: true,
        forward_upgrade: true,
        keep_alive: true,
        edits: &node.program.origin_request(&view),
    };
    write_request_to_origin(&head, &to_origin, &mut sink).expect("room");

    let parsed = parse_response(RESPONSE, view.method, &mut HeadScan::new(), &limits, down);
    let Ok(Parsed::Complete(head, _)) = parsed else { panic!("a response") };
    let response = ResponseView { status: 200, headers: Some(head.headers()) };
    let mut edits = node.program.origin_response(&view, &response);
    edits.extend(node.program.response(&view, &response));
    let edits = EditList { edits: &edits, vars: view.vars() };
    apply_edits(&head.headers(), &edits, &mut sink).expect("room");
    let to_client = ToClient {
        version: Version::Http11,
        method: view.method,
        keep_alive: true,
        date: &date,
        own: b"",
        edits,
    };
    write_response_to_client(&head, &to_client, &mut sink).expect("room");

    let mut timings = Timings::start(0);
    timings.mark(Mark::LastByte, 1_000);
    let record = LogRecord {
        unix_us: 0,
        client: CLIENT,
        method: b"GET",
        target: b"/\"\xff",
        host: view.host,
        version: Version::Http11,
        status: 200,
        body_bytes: 3,
        cache: b"HIT",
        origin: Some("[2001:db8::1]:80".parse().expect("an address")),
        timings,
        user_agent: &[b'x'; 2000],
        referer: b"",
        request_id: 1,
    };
    node.program.log(&view, &response, &record, &mut sink).expect("room");

    let said = proxy_protocol::parse(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n");
    let Ok(Parsed::Complete(header, _)) = said else { panic!("a header") };
    proxy_protocol::write_v1(&header, &mut sink).expect("room");
    proxy_protocol::write_v2(&header, &mut sink).expect("room");
}

#[test]
fn nothing_is_allocated() {
    let node = node();
    let mut slots = [HeaderSlots::new(), HeaderSlots::new()];
    let mut room = [0; 16 * 1024];
    assert_none(|| exchange(&node, &mut slots, &mut room));
}
