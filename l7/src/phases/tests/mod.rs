//! Modules, programs and edits over real heads, and what holds for any edit of any head.

mod edits;
mod modules;
mod programs;
mod properties;

use core::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::http1::{
    HeadScan, HeaderSlots, HttpLimits, Method, Parsed, RequestHead, ResponseHead, Scheme, SliceSink,
    parse_request, parse_response,
};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));

/// Calls `f` with the head that `text` is.
fn with_request<T>(text: &str, f: impl FnOnce(RequestHead<'_>) -> T) -> T {
    let mut slots = HeaderSlots::new();
    match parse_request(text.as_bytes(), &mut HeadScan::new(), &HttpLimits::default(), &mut slots) {
        Ok(Parsed::Complete(head, _)) => f(head),
        other => panic!("{other:?} for {text}"),
    }
}

/// Calls `f` with the response head that `text` is.
fn with_response<T>(text: &str, f: impl FnOnce(ResponseHead<'_>) -> T) -> T {
    let (mut slots, limits) = (HeaderSlots::new(), HttpLimits::default());
    match parse_response(text.as_bytes(), Method::Get, &mut HeadScan::new(), &limits, &mut slots) {
        Ok(Parsed::Complete(head, _)) => f(head),
        other => panic!("{other:?} for {text}"),
    }
}

/// Calls `f` with what modules see of the request that `text` is.
fn with_view<T>(text: &str, scheme: Scheme, f: impl FnOnce(&RequestView<'_>) -> T) -> T {
    with_request(text, |head| {
        let mut room = [0; CleanPath::ROOM];
        let clean = CleanPath::of(head.path(), &mut room).expect("a path that can be cleaned");
        f(&RequestView::of(&head, scheme, CLIENT, clean))
    })
}

/// What a writer wrote, as text.
fn written(f: impl FnOnce(&mut SliceSink<'_>) -> Result<(), crate::http1::Full>) -> String {
    let mut room = [0; 16 * 1024];
    let mut sink = SliceSink::new(&mut room);
    f(&mut sink).expect("it fits");
    String::from_utf8(sink.written().to_vec()).expect("these tests write text")
}

/// An edit as a config would say it.
fn spec(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> EditSpec {
    let pairs = |of: &[(&str, &str)]| of.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
    EditSpec { set: pairs(set), add: pairs(add), remove: remove.iter().map(|&n| n.to_owned()).collect() }
}
