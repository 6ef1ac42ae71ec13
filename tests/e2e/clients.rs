//! Clients that are slow, hostile or unusual.

use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::http::End;
use crate::lab::{Checks, EDGE_V4, PATIENCE};
use crate::origins::{Setup, is_over};
use crate::script::Seen;

pub fn checks(s: &Setup, seen: &Seen, c: &mut Checks) {
    c.check("a head that takes too long", || {
        for part in ["", "G", "GET / HTTP/1.1\r\nHost: any.lab\r\nX-Slow: "] {
            let mut client = s.client();
            client.send(part).expect("sent");
            let (said, end) = client.end();
            let said = String::from_utf8_lossy(&said);
            assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said}");
            assert!(!part.contains("Host") || !said.is_empty(), "408 is owed to {part:?}");
            assert!(matches!(end, End::CutShort | End::Reset), "{part:?}: {end:?}");
        }
        // A byte now and then does not buy more time.
        let mut client = s.client();
        let began = std::time::Instant::now();
        for b in b"GET /fine HTTP/1.1\r\nHost: any.lab\r\nX-Slow: byte by byte until the end" {
            if client.send([*b]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        assert!(is_over(&mut client));
        assert!(began.elapsed() < Duration::from_secs(15));
        assert!(s.edge.counter("http.header_timeout") >= 2);
    });

    c.check("not HTTP", || {
        let before = s.edge.counter("http.rejected");
        let bytes: Vec<u8> = (0..=255).collect();
        for garbage in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"\r\n\r\n\r\n\r\n",
            &bytes,
            b"hello\r\n\r\n",
        ] {
            let mut client = s.client();
            client.send(garbage).expect("sent");
            let a = client.answer("GET");
            assert_eq!(a.whole(), 400, "{garbage:?}");
            assert!(is_over(&mut client));
        }
        assert_eq!(s.edge.counter("http.rejected"), before + 4);
    });

    c.check("request smuggling", || {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: any.lab\r\n\r\n";
        for head in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Transfer-Encoding:\x0bchunked\r\n",
            " Transfer-Encoding: chunked\r\n",
            "Content-Length: 0\r\nContent-Length: 44\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: 5 5\r\n",
            "X: a\nTransfer-Encoding: chunked\r\n",
            "X: a\rTransfer-Encoding: chunked\r\n",
            "Host: other.lab\r\n",
            "X: \0\r\n",
        ] {
            let mut client = s.client();
            client.send(format!("POST / HTTP/1.1\r\nHost: any.lab\r\n{head}\r\n0\r\n\r\n{smuggled}")).expect("sent");
            let a = client.answer("POST");
            assert!([400, 501].contains(&a.whole()), "{head:?}: {a:?}");
            let (rest, end) = client.end();
            assert!(rest.is_empty() && matches!(end, End::CutShort | End::Reset), "{head:?}: {end:?}");
        }
        // In the body: the request has begun, so that it is the origin's connection that must not be used on.
        for body in ["5\r\nhello0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "-1\r\n", "FFFFFFFFFFFFFFFFF\r\n", "5\nhello\r\n0\r\n\r\n"] {
            let mut client = s.client();
            client
                .send(format!("POST /echo HTTP/1.1\r\nHost: any.lab\r\nTransfer-Encoding: chunked\r\n\r\n{body}{smuggled}"))
                .expect("sent");
            let a = client.answer("POST");
            assert_eq!(a.whole(), 400, "{body:?}: {a:?}");
            assert!(is_over(&mut client));
        }
        assert_eq!(seen.count("/smuggled"), 0);
        s.still_serves();
    });

    c.check("a client that goes away", || {
        let before = s.edge.counter("http.client_gone");
        for k in 0..20 {
            let mut client = s.client();
            client.send("GET /bytes?n=50000000 HTTP/1.1\r\nHost: any.lab\r\n\r\n").expect("sent");
            client.take(10_000 * (k + 1)).1.expect("some of it");
            if k % 2 == 0 {
                socket2::SockRef::from(&client.socket).set_linger(Some(Duration::ZERO)).expect("set");
            }
        }
        s.edge.wait_for("http.connections_open", 0);
        assert_eq!(s.edge.counter("http.client_gone"), before + 20);
        // In the middle of an upload.
        for _ in 0..5 {
            let mut client = s.client();
            client
                .send("PUT /echo HTTP/1.1\r\nHost: any.lab\r\nContent-Length: 1000000\r\n\r\nsome")
                .expect("sent");
        }
        s.edge.wait_for("http.connections_open", 0);
        s.still_serves();
    });

    c.check("a client that closes its half gets its answer", || {
        for (request, body) in [
            ("GET /bytes?n=300000 HTTP/1.1\r\nHost: any.lab\r\n\r\n", None),
            ("POST /slow-echo HTTP/1.1\r\nHost: any.lab\r\nContent-Length: 5\r\n\r\nhello", Some("hello")),
            ("GET /hints HTTP/1.1\r\nHost: any.lab\r\n\r\n", Some("hinted")),
        ] {
            let mut client = s.client();
            client.send(request).expect("sent");
            client.socket.shutdown(Shutdown::Write).expect("shut");
            let a = client.answer("GET");
            assert_eq!(a.whole(), 200, "{request}: {a:?}");
            assert_eq!(a.body.len(), body.map_or(300_000, str::len));
            assert_eq!(client.end(), (Vec::new(), End::CutShort), "and then it ends, in order");
        }
    });

    c.check("100 requests in one go", || {
        let mut client = s.client();
        let mut all = String::new();
        for k in 0..100 {
            match k % 4 {
                0 => all += &format!("GET /bytes?n={k} HTTP/1.1\r\nHost: any.lab\r\n\r\n"),
                1 => all += &format!("POST /echo HTTP/1.1\r\nHost: any.lab\r\nContent-Length: 3\r\n\r\n{k:03}"),
                2 => {
                    all += &format!(
                        "POST /echo HTTP/1.1\r\nHost: any.lab\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{k:03}\r\n0\r\n\r\n"
                    );
                }
                _ => all += "HEAD /fine HTTP/1.1\r\nHost: any.lab\r\n\r\n",
            }
        }
        client.send(all).expect("sent");
        for k in 0..100 {
            let a = client.answer(if k % 4 == 3 { "HEAD" } else { "GET" });
            assert_eq!(a.whole(), 200, "{k}");
            match k % 4 {
                0 => assert_eq!(a.body.len(), k),
                3 => assert_eq!(a.header("Content-Length"), Some("2")),
                _ => assert_eq!(a.body, format!("{k:03}").as_bytes()),
            }
        }
    });

    c.check("HEAD", || {
        let mut client = s.client();
        for path in ["/bytes?n=0", "/fine"] {
            client.send(format!("HEAD {path} HTTP/1.1\r\nHost: any.lab\r\n\r\n")).expect("sent");
            assert_eq!(client.answer("HEAD").whole(), 200);
        }
        // A bodiless answer to HEAD with a wrong length, then its own connection is still in step.
        client.send("GET /fine HTTP/1.1\r\nHost: any.lab\r\n\r\n").expect("sent");
        assert_eq!(client.answer("GET").body, b"ok");
    });

    c.check("trailers and interim answers pass", || {
        let a = s.ask("GET", "any.lab", "/trailers", "TE: trailers\r\n");
        assert_eq!((a.whole(), &a.body[..]), (200, &b"hello world"[..]));
        assert!(a.trailers.contains("X-Sum: 42\r\n") && a.trailers.contains("X-Other: two words\r\n"), "{a:?}");
        let a = s.ask(
            "POST",
            "any.lab",
            "/echo",
            "Transfer-Encoding: chunked\r\nTrailer: X-Up\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nX-Up: 1\r\nX-Two: 2\r\n",
        );
        assert_eq!((a.whole(), &a.body[..]), (200, &b"hello!"[..]));
        assert_eq!(a.header("X-Trailers"), Some("X-Up: 1|X-Two: 2|"));
        let a = s.ask("GET", "any.lab", "/empty-chunked", "");
        assert_eq!((a.whole(), a.body.len()), (200, 0));
        let a = s.ask("GET", "any.lab", "/hints", "");
        assert_eq!((a.whole(), &a.interim[..]), (200, &[103][..]));
    });

    c.check("a chunked upload, byte by byte", || {
        let mut client = s.client();
        let all = b"POST /echo HTTP/1.1\r\nHost: any.lab\r\nTransfer-Encoding: chunked\r\n\r\n\
                    b\r\nhello world\r\n2\r\n!!\r\n0\r\nX-Up: yes\r\n\r\n";
        for b in all {
            client.send([*b]).expect("sent");
        }
        let a = client.answer("POST");
        assert_eq!((a.whole(), &a.body[..]), (200, &b"hello world!!"[..]), "{a:?}");
        assert_eq!(a.header("X-Trailers"), Some("X-Up: yes|"));
    });

    c.check("Expect: 100-continue", || {
        let mut client = s.client();
        client
            .send("POST /echo HTTP/1.1\r\nHost: any.lab\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            .expect("sent");
        let go = client.interim().expect("an answer");
        assert!(go.starts_with("HTTP/1.1 100 Continue\r\n"), "{go}");
        client.send("hello").expect("sent");
        let a = client.answer("POST");
        assert_eq!((a.whole(), &a.body[..], a.interim.len()), (200, &b"hello"[..], 0));
        // Refused at once: the body is not asked for.
        let a = s.ask("POST", "bad.lab", "/close", "Content-Length: 5\r\nExpect: 100-continue\r\n");
        assert_eq!((a.whole(), a.interim.len()), (502, 0));
    });

    c.check("what is said of the client, and what is not", || {
        s.ask(
            "GET",
            "any.lab",
            "/about",
            "Connection: X-Private\r\nX-Private: 1\r\nKeep-Alive: x\r\nX-Kept: 2\r\n",
        );
        let head = seen.last("/about");
        assert!(head.contains("X-Kept: 2\r\n"), "{head}");
        assert!(!head.contains("X-Private") && !head.to_lowercase().contains("keep-alive: x"), "{head}");
        let lower = head.to_lowercase();
        assert!(
            lower.contains("x-forwarded-for: 10.80.0.2\r\n") && lower.contains("\r\nvia: 1.1 "),
            "{head}"
        );
        assert!(lower.contains("\r\nhost: any.lab\r\n"), "{head}");
    });

    c.check("an upgrade becomes a tunnel", || {
        let mut client = s.client();
        let ask = "GET /upgrade HTTP/1.1\r\nHost: any.lab\r\nUpgrade: lines\r\nConnection: upgrade\r\n\r\n";
        // What follows the request in the same segment belongs to the tunnel.
        client.send(format!("{ask}first\n")).expect("sent");
        let a = client.answer("GET");
        assert_eq!((a.whole(), a.header("Upgrade")), (101, Some("lines")), "{a:?}");
        let hello = b"welcome\nfirst\n";
        assert_eq!(client.take(hello.len()), (hello.to_vec(), Ok(())));
        for n in [1, 1000, 1_000_000] {
            let data: Vec<u8> = (0..n).map(|k| (k % 251) as u8).collect();
            let mut writer = client.socket.try_clone().expect("cloned");
            let sent = data.clone();
            let sender = thread::spawn(move || std::io::Write::write_all(&mut writer, &sent));
            let (echo, end) = client.take(n);
            end.expect("all of it");
            assert!(echo == data, "{n} bytes");
            sender.join().expect("no panic").expect("sent");
        }
        client.socket.shutdown(Shutdown::Write).expect("shut");
        assert_eq!(client.end(), (b"goodbye\n".to_vec(), End::CutShort), "the other half still speaks");
        let mut client = s.client();
        client.send(ask.replace("/upgrade", "/upgrade-slowly")).expect("sent");
        assert_eq!(client.answer("GET").whole(), 101);
        client.socket.shutdown(Shutdown::Write).expect("shut");
        assert_eq!(client.end(), (b"welcome\ngoodbye\n".to_vec(), End::CutShort), "data, then FIN");
        // The origin ends its half first: what the client says after that arrives.
        for n in [7, 500_000] {
            let before = seen.late.load(Ordering::Relaxed);
            let mut client = s.client();
            client.send(ask.replace("/upgrade", "/upgrade-and-end")).expect("sent");
            assert_eq!(client.answer("GET").whole(), 101);
            assert_eq!(client.end(), (b"bye\n".to_vec(), End::CutShort));
            client.send(vec![b'l'; n]).expect("sent");
            client.socket.shutdown(Shutdown::Write).expect("shut");
            let until = Instant::now() + PATIENCE;
            while seen.late.load(Ordering::Relaxed) != before + n {
                assert!(Instant::now() < until, "of {n} B {}", seen.late.load(Ordering::Relaxed) - before);
                thread::sleep(Duration::from_millis(10));
            }
        }
        // One that just goes.
        let mut client = s.client();
        client.send(ask).expect("sent");
        assert_eq!(client.answer("GET").whole(), 101);
        drop(client);
        s.edge.wait_for("http.connections_open", 0);
    });

    c.check("HTTP/1.0", || {
        let mut client = s.client();
        client.send("GET /trailers HTTP/1.0\r\nHost: any.lab\r\n\r\n").expect("sent");
        let a = client.answer("GET");
        assert_eq!((a.whole(), &a.body[..]), (200, &b"hello world"[..]));
        assert!(a.header("Transfer-Encoding").is_none(), "{}", a.head);
        // Without Host there is the default site.
        let mut client = s.client();
        client
            .send("GET /fine HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /fine HTTP/1.0\r\n\r\n")
            .expect("sent");
        assert_eq!(client.answer("GET").body, b"ok");
        assert_eq!(client.answer("GET").body, b"ok");
        assert!(is_over(&mut client));
    });

    c.check("curl --http1.0", || {
        let url = format!("http://{EDGE_V4}/bytes?n=5000");
        let n = s.lab.ask(20, &format!("curl --http1.0 -fsS {url} | wc -c"));
        assert_eq!(n, "5000");
    });
}
