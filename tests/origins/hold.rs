//! What peers without TLS can hold of the memory that records need, by reading slowly what comes by TLS.

use std::io::Write;

use dataplane::Ctr;
use hugepages::Limits;
use l7::tls::RECORD_BYTES_MAX;

use crate::rig::{count, node_of, site, wait};
use crate::stock::{be_asked, by_tls, silence, tls_node, turn};
use crate::support::Shared;
use crate::support::peers::Peers;
use crate::support::tls::TlsOf;

const BODY_BYTES: usize = 1 << 20;

/// Cells for records that are in use.
fn in_use(p: &Peers) -> u64 {
    // As `Shared` has it.
    1024 - count(p, Ctr::PoolRecordFree)
}

/// An origin sends records of so many bytes; its client stops reading, and then takes it all.
fn slow_reader(record: usize) -> u64 {
    let (config, origin) = by_tls("origin.lab");
    let mut p = tls_node(site(vec![origin], false));
    let client = p.connect_slow(b"GET / HTTP/1.1\r\nHost: site.lab\r\n\r\n", 8 << 10);
    p.settle(&mut silence);
    let (mut tls, port) = be_asked(&mut p, &config);
    let body: Vec<u8> = (0..BODY_BYTES).map(|i| (i / 7) as u8).collect();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
    let mut held = 0;
    for piece in std::iter::once(head.as_bytes()).chain(body.chunks(record)) {
        tls.writer().write_all(piece).expect("no bound is reached");
        let (_, out) = turn(&mut tls, &[]);
        p.origin_sends(port, &out);
        p.settle(&mut silence);
        held = held.max(in_use(&p));
    }
    for _ in 0..BODY_BYTES / 1024 {
        if p.client_got(client).0.len() >= head.len() + BODY_BYTES {
            break;
        }
        p.client_reads(client, 16 << 10);
        p.settle(&mut silence);
    }
    let got = std::mem::take(p.client_got(client).0);
    assert!(got.ends_with(&body), "all of it has come");
    assert_eq!((count(&p, Ctr::TlsNoCell), in_use(&p)), (0, 0));
    held
}

/// Slow readers by the dozen take all cells that there may be: whoever comes then waits, and nobody's connection ends.
#[test]
fn where_no_cell_is_left_records_wait() {
    let (config, origin) = by_tls("origin.lab");
    let shared = Shared { tls: Some(TlsOf::new()), record_cells: 32, ..Shared::new(1) };
    let mut p = node_of(site(vec![origin], false), &shared);
    let body: Vec<u8> = (0..256 << 10).map(|i: u32| (i / 7) as u8).collect();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut clients = Vec::new();
    for n in 0..40 {
        let request = format!("GET /{n} HTTP/1.1\r\nHost: site.lab\r\n\r\n");
        let client = p.connect_slow(request.as_bytes(), 4 << 10);
        p.settle(&mut silence);
        let (mut tls, port) = be_asked(&mut p, &config);
        for piece in std::iter::once(head.as_bytes()).chain(body.chunks(16 << 10)) {
            tls.writer().write_all(piece).expect("no bound is reached");
            let (_, out) = turn(&mut tls, &[]);
            p.origin_sends(port, &out);
        }
        p.settle(&mut silence);
        clients.push(client);
    }
    assert!(count(&p, Ctr::TlsCellWaits) > 0);
    for _ in 0..body.len() / 1024 {
        for client in &clients {
            p.client_reads(*client, 16 << 10);
        }
        wait(&mut p, 50, &mut silence);
    }
    for client in clients {
        let got = std::mem::take(p.client_got(client).0);
        assert!(got.ends_with(&body), "{} bytes", got.len());
    }
    assert_eq!((count(&p, Ctr::TlsNoCell), count(&p, Ctr::PoolRecordFree)), (0, 32));
}

#[test]
fn a_slow_reader_holds_no_more_than_its_budget() {
    let budget = Limits::for_core_memory(256 << 20).request_budget_bytes;
    // One more that begins when the budget is not quite used up, one that is opened ahead, one that is being looked at.
    let most = u64::from(budget / RECORD_BYTES_MAX) + 3;
    for record in [16 << 10, 8 << 10, 4 << 10, 2100] {
        let held = slow_reader(record);
        assert!(held <= most, "{held} cells by records of {record} bytes, {most} at most");
    }
}
