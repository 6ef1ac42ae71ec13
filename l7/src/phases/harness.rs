//! What must hold for any bytes at all, for the fuzz targets (`fuzz/`) and the property tests. Tests only: it
//! allocates and panics as it likes.

use core::net::{IpAddr, Ipv4Addr};

pub use super::access_log::check as access_log;
pub use super::proxy_protocol::check as proxy_protocol;
pub use super::route::check as path;
use super::*;
use crate::http1::*;

const MAX: usize = 64 * 1024;
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// Edits that touch much of what heads are made of.
fn edits(message: Message) -> [HeadEdit; 2] {
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let first = EditSpec {
        set: pairs(&[("X-A", "{path}|{host}|{client_ip}|{scheme}"), ("Accept", "*/*")]),
        add: pairs(&[("X-B", "1"), ("Gone", "2")]),
        remove: names(&["Cookie", "C*", "T*", "H*", "Co*", "X-Forwarded-For"]),
    };
    let second = EditSpec { add: pairs(&[("X-C", "3")]), remove: names(&["gone"]), ..EditSpec::default() };
    [first, second].map(|spec| HeadEdit::new(message, &spec).expect("good edits"))
}

/// Any bytes as a request head that is edited, and as a response head that is.
pub fn edit(input: &[u8]) {
    let limits = HttpLimits::default();
    let roomy = HttpLimits { head_bytes_max: MAX, ..limits };
    let (mut slots, mut again_slots) = (HeaderSlots::new(), HeaderSlots::new());
    let mut room = vec![0; MAX];
    let mut sink = SliceSink::new(&mut room);
    if let Ok(Parsed::Complete(head, _)) = parse_request(input, &mut HeadScan::new(), &limits, &mut slots)
        && !head.authority().is_empty()
    {
        let [first, second] = edits(Message::Request);
        let ctx = ToOrigin {
            client_ip: CLIENT,
            client_tls: false,
            identity: None,
            host: None,
            forward_expect: true,
            forward_upgrade: true,
            keep_alive: true,
            edits: &[&first, &second],
        };
        if write_request_to_origin(&head, &ctx, &mut sink).is_err() {
            return;
        }
        let written = sink.written();
        match parse_request(written, &mut HeadScan::new(), &roomy, &mut again_slots) {
            Ok(Parsed::Complete(again, n)) => {
                assert_eq!(n, written.len(), "nothing may follow the head");
                assert_eq!((again.method_bytes(), again.path()), (head.method_bytes(), head.path()));
                assert_eq!(
                    (again.body(), again.host(), again.port()),
                    (head.body(), head.host(), head.port())
                );
                assert_edited(&again.headers());
                assert!(again.headers().get(b"x-forwarded-for").is_none());
            }
            // The edits' come on top of what was there.
            Err(Reject { reason: RejectReason::TooManyHeaders, .. }) => {}
            other => panic!("{other:?} from {}", written.escape_ascii()),
        }
        return;
    }
    let parsed = parse_response(input, Method::Get, &mut HeadScan::new(), &limits, &mut slots);
    if let Ok(Parsed::Complete(head, _)) = parsed
        && !head.is_interim()
    {
        let [first, second] = edits(Message::Response);
        let date = http_date::format(784_111_777);
        let vars = Vars { client_ip: CLIENT, scheme: Scheme::Http, host: input, path: input, identity: None };
        let edits = EditList { edits: &[&first, &second], vars };
        let ctx = ToClient {
            version: Version::Http11,
            method: Method::Get,
            keep_alive: true,
            date: &date,
            own: b"",
            edits,
        };
        if write_response_to_client(&head, &ctx, &mut sink).is_err() {
            return;
        }
        let written = sink.written();
        match parse_response(written, Method::Get, &mut HeadScan::new(), &roomy, &mut again_slots) {
            Ok(Parsed::Complete(again, n)) => {
                assert_eq!(n, written.len(), "nothing may follow the head");
                assert_eq!(again.status(), head.status());
                assert_eq!(again.body(), outgoing_body(&head, Version::Http11));
                assert_edited(&again.headers());
            }
            Err(Reject { reason: RejectReason::TooManyHeaders, .. }) => {}
            other => panic!("{other:?} from {}", written.escape_ascii()),
        }
    }
}

fn assert_edited(headers: &Headers<'_>) {
    for (name, count) in
        [(&b"x-a"[..], 1), (b"accept", 1), (b"cookie", 0), (b"gone", 0), (b"content-type", 0)]
    {
        assert_eq!(headers.get_all(name).count(), count, "{}", name.escape_ascii());
    }
    assert!(headers.get(b"x-b").is_some() && headers.get(b"x-c").is_some());
    assert!(headers.get_all(b"host").count() <= 1);
}
