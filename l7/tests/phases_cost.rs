//! A module that a route does not use costs it not one instruction: the same requests through the same routes,
//! once in a node where no route has modules and once where another route has them all, counted by callgrind.
//! And what the phases cost a route without modules is a few instructions for each phase.
//!
//! Skips itself where there is no valgrind. `phases_cost work NAME` is the work that is counted.

use std::hint::black_box;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use l7::http1::*;
use l7::phases::*;

const TIMES: u64 = 50;
const REQUEST: &[u8] = b"GET /a/b?c=d HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: x\r\nAccept: */*\r\n\
    Accept-Encoding: gzip\r\nX-Internal-Id: 1\r\n\r\n";
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\nX-Internal-Node: 1\r\nContent-Type: t\r\n\r\n";
const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// More than a length test, its branch and an empty list should be, in a build without optimisation too.
const INSTRUCTIONS_PER_PHASE_MAX: u64 = 24;
const PHASES: u64 = 6;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words[..] {
        [work, name] if work == "work" => run(name),
        // What test runners ask for first: the tests, and those that are to be ignored.
        words if words.iter().any(|w| w == "--list") => {
            if !words.iter().any(|w| w == "--ignored") {
                println!("an_unused_module_costs_no_instruction: test");
            }
        }
        _ => compare(),
    }
}

/// The names of what is counted are equally long: they stand on the stack of the counted process, and where a
/// buffer is aligned otherwise, copying takes another way.
fn compare() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("phases_cost: skipped: valgrind is not installed");
        if let Ok(path) = std::env::var("MILLRACE_TEST_SKIPS") {
            let skips = std::fs::OpenOptions::new().append(true).create(true).open(path);
            skips
                .and_then(|mut file| writeln!(file, "phases_cost valgrind is not installed"))
                .expect("a line");
        }
        return;
    }
    let [bare, none, elsewhere, used] = ["bare", "none", "away", "used"].map(count);
    println!("instructions per exchange: without the calls {bare}, no modules {none},");
    println!("  modules on another route {elsewhere}, modules on this route {used}");
    assert_eq!(none, elsewhere, "a module of another route costs something");
    assert!(none >= bare && none - bare <= PHASES * INSTRUCTIONS_PER_PHASE_MAX, "{} more", none - bare);
    assert!(used > none, "the modules did not run");
}

/// Instructions for each exchange.
fn count(name: &str) -> u64 {
    let program = std::env::current_exe().expect("a path");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=phases_cost::measured_*"])
        .arg("--callgrind-out-file=/dev/null")
        .args([program.as_os_str(), "work".as_ref(), name.as_ref()])
        .output()
        .expect("valgrind runs");
    let log = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{log}");
    let line = log.lines().find(|line| line.contains("Collected :")).unwrap_or_else(|| panic!("{log}"));
    let total: u64 = line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(total > 0 && total.is_multiple_of(TIMES), "every exchange counts the same: {total}");
    total / TIMES
}

/// A node's routes and their programs: `/` is what is asked for, `/admin` another route.
struct Node {
    router: Router,
    programs: [Program; 2],
}

fn modules() -> Program {
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
    let request = EditSpec { set: pairs(&[("X-Client", "{client_ip}")]), ..EditSpec::default() };
    let response = EditSpec { add: pairs(&[("X-Served-By", "millrace")]), ..EditSpec::default() };
    let elsewhere = RedirectTo::Host("www.example.com".to_owned());
    Program::builder()
        .with(Redirect::new(301, &elsewhere, Filter::ALWAYS).expect("good"))
        .and_then(|p| p.with(RequestHeaders::new(&request, Filter::ALWAYS).expect("good")))
        .and_then(|p| p.with(ResponseHeaders::new(&response, Filter::ALWAYS).expect("good")))
        .and_then(|p| p.with(StripInternal::new(vec!["X-Internal-*".to_owned()]).expect("good")))
        .and_then(|p| p.with(AccessLog::new(LogFormat::Text, Filter::ALWAYS)))
        .expect("a good program")
        .build()
}

fn run(name: &str) {
    let router = Router::new([(vec!["www.example.com"], vec!["/", "/admin"])]);
    let programs = match name {
        "bare" | "none" => [Program::default(), Program::default()],
        "away" => [Program::default(), modules()],
        "used" => [modules(), Program::default()],
        _ => panic!("{name}"),
    };
    let node = Node { router, programs };
    warm_up(&node);
    for _ in 0..TIMES {
        if name == "bare" { measured_bare(&node) } else { measured_exchange(&node) }
    }
}

/// What happens once only: symbols are bound, memchr looks what the processor can.
#[inline(never)]
fn warm_up(node: &Node) {
    exchange::<true>(node);
    exchange::<false>(node);
}

#[inline(never)]
fn measured_bare(node: &Node) {
    exchange::<false>(node);
}

#[inline(never)]
fn measured_exchange(node: &Node) {
    exchange::<true>(node);
}

/// One exchange, as the proxy has it. Without `PHASES` the calls of the phases are left out, and nothing else.
#[inline(always)]
fn exchange<const PHASES: bool>(node: &Node) {
    let limits = HttpLimits::default();
    let (mut slots, mut clean) = (HeaderSlots::new(), [0; CleanPath::ROOM]);
    let (mut up, mut down, mut log) = ([0; 1024], [0; 1024], [0; access_log::LINE_BYTES_MAX]);
    let parsed = parse_request(black_box(REQUEST), &mut HeadScan::new(), &limits, &mut slots);
    let Ok(Parsed::Complete(head, _)) = parsed else { panic!("a request") };
    let clean = CleanPath::of(head.path(), &mut clean).expect("a clean path");
    let site = node.router.site(head.host()).expect("a site");
    let route = node.router.route(site, clean).expect("a route");
    let program = &node.programs[usize::from(route)];
    let view = RequestView::of(&head, Scheme::Http, CLIENT, clean);

    let mut edits = Edits::new();
    if PHASES {
        assert!(program.request(&view).is_none());
        program.cache_key(&view, &mut SliceSink::new(&mut log)).expect("room");
        edits = program.origin_request(&view);
    }
    let ctx = ToOrigin {
        client_ip: CLIENT,
        client_tls: false,
        identity: None,
        host: None,
        forward_expect: true,
        forward_upgrade: true,
        keep_alive: true,
        edits: &edits,
    };
    write_request_to_origin(&head, &ctx, &mut SliceSink::new(&mut up)).expect("room");

    let (vars, method) = (view.vars(), view.method);
    let mut slots = HeaderSlots::new();
    let parsed = parse_response(black_box(RESPONSE), method, &mut HeadScan::new(), &limits, &mut slots);
    let Ok(Parsed::Complete(head, _)) = parsed else { panic!("a response") };
    let response = ResponseView { status: head.status(), headers: Some(head.headers()) };
    let mut edits = Edits::new();
    if PHASES {
        edits = program.origin_response(&view, &response);
        for edit in program.response(&view, &response) {
            edits.push(edit);
        }
    }
    let edits = EditList { edits: &edits, vars };
    let ctx = ToClient { version: Version::Http11, method, keep_alive: true, date: DATE, own: b"", edits };
    write_response_to_client(&head, &ctx, &mut SliceSink::new(&mut down)).expect("room");
    let record = LogRecord {
        unix_us: 0,
        client: CLIENT,
        method: b"GET",
        target: b"/a/b?c=d",
        host: b"www.example.com",
        version: Version::Http11,
        status: 200,
        body_bytes: 3,
        cache: b"",
        origin: None,
        timings: Timings::start(0),
        user_agent: b"x",
        referer: b"",
        request_id: 1,
    };
    black_box(&record);
    if PHASES {
        program.log(&view, &response, &record, &mut SliceSink::new(&mut log)).expect("room");
    }
    black_box((up, down, log));
}
