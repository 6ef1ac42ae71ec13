//! The origin response phase: what it removes is gone before the cache looks at a response.

use dataplane::Ctr;
use l7::phases::{Program, StripInternal};
use l7::proxy::ProxyConfig;

use crate::rig::{count, get, node, origin, site, text, v4, wait};
use crate::support::peers::{Act, Asked, Peers};

fn stripped() -> ProxyConfig {
    let mut config = site(vec![origin(&[v4()])], true);
    let names = ["X-Internal-*", "Set-Cookie", "Surrogate-Control"].map(str::to_owned).to_vec();
    let module = StripInternal::new(names).expect("good names");
    config.routes[0].modules = Program::builder().with(module).expect("room").build();
    config
}

/// One request, whose origin answers with these lines; whether it was asked, and what came.
fn ask(p: &mut Peers, status: &str, lines: &str, body: &str) -> (usize, String) {
    let mut asked = 0;
    let mut origin = |_: &Asked, _: u64| {
        asked += 1;
        let length = if status.starts_with("304") {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        Act::Send(format!("HTTP/1.1 {status}\r\n{lines}{length}\r\n{body}").into_bytes(), false)
    };
    let client = p.connect(&get("/1"));
    p.settle(&mut origin);
    let got = text(p, client);
    p.client_resets(client);
    p.settle(&mut origin);
    (asked, got)
}

fn is_clean(got: &str) {
    let lower = got.to_ascii_lowercase();
    assert!(!lower.contains("x-internal") && !lower.contains("set-cookie"), "{got}");
    assert!(lower.contains("x-public: yes") && got.ends_with("hello"), "{got}");
}

#[test]
fn what_is_stored_is_what_the_phase_made_of_it() {
    let mut p = node(stripped());
    let fields = "ETag: \"1\"\r\nX-Internal-Host: a7\r\nSet-Cookie: id=1\r\nX-Public: yes\r\n";
    let cc = "Cache-Control: max-age=10\r\n";
    // That it can be stored at all is the phase's doing: without a Set-Cookie.
    let (asked, got) = ask(&mut p, "200 OK", &format!("{cc}{fields}"), "hello");
    assert_eq!(asked, 1);
    is_clean(&got);
    assert_eq!(count(&p, Ctr::CacheStored), 1);
    let (asked, got) = ask(&mut p, "500 Nobody", "", "");
    assert_eq!(asked, 0, "a hit");
    is_clean(&got);
    // A 304 updates what is stored, but not with what the phase removes.
    wait(&mut p, 11_000, &mut |_, _| Act::Hold);
    let (asked, got) =
        ask(&mut p, "304 Not Modified", &format!("{cc}{fields}X-Internal-New: 2\r\nX-More: 3\r\n"), "");
    assert_eq!(asked, 1);
    is_clean(&got);
    assert!(got.contains("X-More: 3"), "{got}");
    let (asked, got) = ask(&mut p, "500 Nobody", "", "");
    assert_eq!(asked, 0);
    is_clean(&got);
}

#[test]
fn what_is_only_passed_on_is_edited_too() {
    let mut p = node(stripped());
    let fields = "Cache-Control: no-store\r\nX-Internal-Host: a7\r\nSet-Cookie: id=1\r\nX-Public: yes\r\n";
    for _ in 0..2 {
        let (asked, got) = ask(&mut p, "200 OK", fields, "hello");
        assert_eq!(asked, 1);
        is_clean(&got);
    }
    assert_eq!(count(&p, Ctr::CacheStored), 0);
}
