//! Edits: what is compiled, what is refused, and what goes on to the next hop.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::http1::{ToClient, ToOrigin, Version, write_request_to_origin, write_response_to_client};
use crate::phases::edit::EditFault;
use crate::tls::certs::Identity;

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

fn to_origin(request: &str, specs: &[EditSpec]) -> String {
    let edits: Vec<HeadEdit> = specs.iter().map(|s| HeadEdit::new(Message::Request, s).unwrap()).collect();
    let edits: Vec<&HeadEdit> = edits.iter().collect();
    with_request(request, |head| {
        let ctx = ToOrigin {
            client_ip: CLIENT,
            client_tls: true,
            identity: None,
            host: None,
            forward_expect: true,
            forward_upgrade: true,
            keep_alive: true,
            edits: &edits,
        };
        written(|sink| write_request_to_origin(&head, &ctx, sink))
    })
}

const VARS: Vars<'_> =
    Vars { client_ip: CLIENT, scheme: Scheme::Https, host: b"a.example", path: b"/p", identity: None };

fn to_client(response: &str, specs: &[EditSpec]) -> String {
    let edits: Vec<HeadEdit> = specs.iter().map(|s| HeadEdit::new(Message::Response, s).unwrap()).collect();
    let edits: Vec<&HeadEdit> = edits.iter().collect();
    let edits = EditList { edits: &edits, vars: VARS };
    with_response(response, |head| {
        let ctx = ToClient {
            version: Version::Http11,
            method: Method::Get,
            keep_alive: true,
            date: DATE,
            own: b"",
            edits,
        };
        written(|sink| write_response_to_client(&head, &ctx, sink))
    })
}

const OURS: &str = "Via: 1.1 millrace\r\nX-Forwarded-For: 192.0.2.10\r\nX-Forwarded-Proto: https\r\n\
                    X-Forwarded-Host: a.example\r\n";

#[test]
fn requests_are_edited() {
    let get = |lines: &str| format!("GET /p?q HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n");
    let cases: &[(&str, &[EditSpec], &str)] = &[
        ("A: 1\r\nB: 2\r\n", &[spec(&[], &[], &["a"])], &format!("B: 2\r\n{OURS}")),
        ("A: 1\r\na: 2\r\nB: 3\r\n", &[spec(&[("A", "x")], &[], &[])], &format!("B: 3\r\n{OURS}A: x\r\n")),
        ("A: 1\r\n", &[spec(&[], &[("A", "x")], &[])], &format!("A: 1\r\n{OURS}A: x\r\n")),
        (
            "X-Internal-A: 1\r\nx-INTERNAL-: 2\r\nX-Intern: 3\r\nX-Internal: 4\r\n",
            &[spec(&[], &[], &["X-Internal-*"])],
            &format!("X-Intern: 3\r\nX-Internal: 4\r\n{OURS}"),
        ),
        (
            "A: 1\r\n",
            &[spec(&[("Where", "{scheme}://{host}{path} from {client_ip} {{}}")], &[], &[])],
            &format!("A: 1\r\n{OURS}Where: https://a.example/p from 192.0.2.10 {{}}\r\n"),
        ),
        // A later edit sees what an earlier one added; an edit does not see its own.
        (
            "",
            &[spec(&[("A", "1")], &[("B", "1"), ("C", "1")], &["B"]), spec(&[], &[("D", "1")], &["a", "C*"])],
            &format!("{OURS}B: 1\r\nD: 1\r\n"),
        ),
        // Reserved lines stay under a wildcard that covers them, framing is written anew, and hop-by-hop lines
        // go as ever.
        (
            "Via: 1.0 z\r\nConnection: close\r\nContent-Type: t\r\nContent-Length: 3\r\nVary: a\r\n",
            &[spec(&[], &[], &["V*", "C*"])],
            &format!("Via: 1.0 z\r\nContent-Length: 3\r\n{OURS}"),
        ),
        // A wildcard takes what the client said of X-Forwarded-For; what we saw ourselves stays.
        ("X-Forwarded-For: 1.1.1.1\r\nX-A: 1\r\n", &[spec(&[], &[], &["X-*"])], OURS),
        // A whole name stands for our line too.
        (
            "X-Forwarded-For: 1.1.1.1\r\n",
            &[spec(&[("x-forwarded-for", "{client_ip}")], &[], &["X-Forwarded-Host", "x-forwarded-proto"])],
            "Via: 1.1 millrace\r\nx-forwarded-for: 192.0.2.10\r\n",
        ),
        ("A: 1\r\n", &[spec(&[], &[], &[])], &format!("A: 1\r\n{OURS}")),
    ];
    for (lines, specs, want) in cases {
        assert_eq!(to_origin(&get(lines), specs), get(want), "{lines} {specs:?}");
    }
}

#[test]
fn responses_are_edited() {
    let cases: &[(&str, &[EditSpec], &str)] = &[
        (
            "Server: x\r\nX-Powered-By: y\r\nContent-Length: 3\r\n",
            &[spec(&[("Strict-Transport-Security", "max-age=1")], &[], &["server", "X-Powered-*"])],
            "Content-Length: 3\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nVia: 1.1 millrace\r\n\
             Strict-Transport-Security: max-age=1\r\n",
        ),
        (
            "Date: x\r\nVia: 1.1 o\r\nContent-Length: 3\r\n",
            &[spec(&[], &[], &["via", "D*"])],
            "Date: x\r\nContent-Length: 3\r\n",
        ),
        (
            "Date: x\r\nContent-Length: 3\r\nSet-Cookie: a\r\n",
            &[spec(&[], &[("Set-Cookie", "b")], &[])],
            "Date: x\r\nSet-Cookie: a\r\nContent-Length: 3\r\nVia: 1.1 millrace\r\nSet-Cookie: b\r\n",
        ),
    ];
    for (lines, specs, want) in cases {
        let head = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        assert_eq!(to_client(&head, specs), format!("HTTP/1.1 200 OK\r\n{want}\r\n"), "{lines}");
    }
}

#[test]
fn a_stored_head_is_edited() {
    let stored = "HTTP/1.1 200 OK\r\nDate: x\r\nA: 1\r\nContent-Length: 3\r\nContent-Type: t\r\nB:2\r\n\r\n";
    let edit = HeadEdit::new(Message::Response, &spec(&[("C", "{host}")], &[], &["Content-*", "a"])).unwrap();
    let list = EditList { edits: &[&edit], vars: VARS };
    let got = with_response(stored, |head| written(|sink| apply_edits(&head.headers(), &list, sink)));
    assert_eq!(got, "Date: x\r\nContent-Length: 3\r\nB: 2\r\nC: a.example\r\n");
    let got =
        with_response(stored, |head| written(|sink| apply_edits(&head.headers(), &EditList::NONE, sink)));
    assert_eq!(got, "Date: x\r\nA: 1\r\nContent-Length: 3\r\nContent-Type: t\r\nB: 2\r\n");
    assert!(list.replaces(b"A") && list.replaces(b"c") && !list.replaces(b"content-type"));
}

#[test]
fn what_cannot_be_compiled() {
    use EditFault::*;
    let (request, response) = (Message::Request, Message::Response);
    let cases = [
        (request, spec(&[("Content-Length", "1")], &[], &[]), Reserved),
        (request, spec(&[], &[("transfer-encoding", "x")], &[]), Reserved),
        (request, spec(&[], &[], &["Connection"]), Reserved),
        (request, spec(&[("Host", "x")], &[], &[]), Reserved),
        (request, spec(&[], &[], &["Via"]), Reserved),
        (request, spec(&[], &[], &["TE"]), Reserved),
        (request, spec(&[], &[], &["Proxy"]), Reserved),
        (response, spec(&[("Date", "x")], &[], &[]), Reserved),
        (response, spec(&[], &[], &["age"]), Reserved),
        (response, spec(&[], &[], &["Upgrade"]), Reserved),
        (request, spec(&[("", "x")], &[], &[]), NameInvalid),
        (request, spec(&[("a b", "x")], &[], &[]), NameInvalid),
        (request, spec(&[("a:", "x")], &[], &[]), NameInvalid),
        (request, spec(&[], &[], &["a\r\nb"]), NameInvalid),
        (request, spec(&[], &[], &["*"]), WildcardInvalid),
        (request, spec(&[], &[], &["a*b*"]), WildcardInvalid),
        (request, spec(&[("a", "x\r\nb: y")], &[], &[]), ValueInvalid),
        (request, spec(&[("a", "x\0")], &[], &[]), ValueInvalid),
        (request, spec(&[("a", "{ip}")], &[], &[]), UnknownVariable),
        (request, spec(&[("a", "{host")], &[], &[]), BraceUnpaired),
        (request, spec(&[("a", "host}")], &[], &[]), BraceUnpaired),
    ];
    for (message, spec, want) in cases {
        let got = HeadEdit::new(message, &spec);
        assert_eq!(got.as_ref().map(|_| ()).map_err(|e| e.fault), Err(want), "{spec:?}");
        assert!(!got.unwrap_err().to_string().is_empty());
    }
    // `a*b` is a token: `*` may stand in a name, though nobody does it.
    assert!(HeadEdit::new(request, &spec(&[], &[], &["a*b"])).is_ok());
}

#[test]
fn a_variable_never_ends_a_line() {
    let edit = HeadEdit::new(Message::Response, &spec(&[("A", "<{host}{path}>")], &[], &[])).unwrap();
    let vars = Vars { host: b"x\r\nB: 1", path: b"/\0", ..VARS };
    assert_eq!(written(|sink| EditList { edits: &[&edit], vars }.append(sink)), "A: <>\r\n");
}

#[test]
fn a_line_about_a_certificate_is_for_clients_that_have_shown_one() {
    let set = [("X-Client", "{client_subject}|{client_issuer}"), ("A", "{host}")];
    let add = [("Key", "{client_serial} {client_fingerprint}")];
    let edit = HeadEdit::new(Message::Request, &spec(&set, &add, &[])).unwrap();
    let request = "GET / HTTP/1.1\r\nHost: a.example\r\nX-CLIENT: CN=root\r\nKey: 1\r\n\r\n";
    let sent = |identity: Option<&Identity>| {
        with_request(request, |head| {
            let ctx = ToOrigin {
                client_ip: CLIENT,
                client_tls: true,
                identity,
                host: None,
                forward_expect: true,
                forward_upgrade: true,
                keep_alive: true,
                edits: &[&edit],
            };
            written(|sink| write_request_to_origin(&head, &ctx, sink))
        })
    };
    let start = "GET / HTTP/1.1\r\nHost: a.example\r\nKey: 1\r\n";
    // What the client says of itself by that name is gone in any case.
    assert_eq!(sent(None), format!("{start}{OURS}A: a.example\r\n\r\n"));
    let mut identity = Identity {
        subject: "CN=somebody,O=Some\\, Body".into(),
        common_name: Some("somebody".into()),
        issuer: "CN=CA".into(),
        serial: "12ab".into(),
        names: Vec::new(),
        fingerprint: [0xa5; 32],
    };
    let key = "a5".repeat(32);
    let lines = format!("X-Client: CN=somebody,O=Some\\, Body|CN=CA\r\nA: a.example\r\nKey: 12ab {key}\r\n");
    assert_eq!(sent(Some(&identity)), format!("{start}{OURS}{lines}\r\n"));
    // Never a line of its own, whatever a certificate says.
    identity.subject = "CN=x\r\nX-Client: CN=root".into();
    assert!(sent(Some(&identity)).contains("X-Client: |CN=CA\r\nA:"));
}

/// Names that lines and edits have in common now and then.
fn name() -> impl Strategy<Value = String> {
    select(vec![
        "A",
        "a",
        "X-I-a",
        "x-i-B",
        "X-I",
        "X-",
        "Vary",
        "Content-Type",
        "Server",
        "Set-Cookie",
        "b1",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The compiled edits do what the words say, done one after the other.
    #[test]
    fn agrees_with_the_plain_words(
        lines in vec((name(), "[a-z]{1,5}", "( |  )"), 0..25),
        edits in vec(
            (vec((name(), "[a-z]{1,5}"), 0..3), vec((name(), "[a-z]{1,5}"), 0..3), vec((name(), "\\*?"), 0..6)),
            0..4,
        ),
    ) {
        let specs: Vec<EditSpec> = edits
            .iter()
            .map(|(set, add, remove)| EditSpec {
                set: set.clone(),
                add: add.clone(),
                remove: remove.iter().map(|(name, star)| format!("{name}{star}")).collect(),
            })
            .collect();
        let mut want: Vec<(String, String)> = lines.iter().map(|(n, v, _)| (n.clone(), v.clone())).collect();
        for spec in &specs {
            want.retain(|(name, _)| {
                let name = name.to_ascii_lowercase();
                !spec.remove.iter().any(|r| match r.to_ascii_lowercase().strip_suffix('*') {
                    Some(prefix) => name.starts_with(prefix),
                    None => name == r.to_ascii_lowercase(),
                }) && !spec.set.iter().any(|(n, _)| n.eq_ignore_ascii_case(&name))
            });
            want.extend(spec.set.iter().chain(&spec.add).cloned());
        }
        let head: String = lines.iter().map(|(n, v, blanks)| format!("{n}:{blanks}{v}\r\n")).collect();
        let edits: Vec<HeadEdit> =
            specs.iter().map(|spec| HeadEdit::new(Message::Response, spec).unwrap()).collect();
        let edits: Vec<&HeadEdit> = edits.iter().collect();
        let list = EditList { edits: &edits, vars: VARS };
        let got = with_response(&format!("HTTP/1.1 200 OK\r\n{head}\r\n"), |head| {
            written(|sink| apply_edits(&head.headers(), &list, sink))
        });
        let want: String = want.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        prop_assert_eq!(got, want);
    }
}
