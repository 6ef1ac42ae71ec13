//! Large files in slices: nginx has them, curl wants all of one, a range of it, or the rest of it.

use std::fs;

use crate::lab::{Checks, EDGE_V4, Lab, config, count, text};

const SITE: &str = "[cache]\nmemory = \"96MiB\"\nobject_max = \"1MiB\"\n\
    [[site]]\nhosts = \"*\"\norigin = \"http://10.80.0.3:80\"\n\
    cache = { slice = \"1MiB\", default_ttl = \"5m\" }\n";
const MIB: u64 = 1 << 20;

/// Statuses of nginx's answers for a path, and how many of each.
fn answers(lab: &Lab, path: &str) -> Vec<(u16, usize)> {
    let read = || fs::read_to_string(lab.dir().join("access.log")).unwrap_or_default();
    // nginx writes a line after the last byte is out: until nothing more comes.
    let mut log = read();
    for _ in 0..50 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let now = read();
        if now == log {
            break;
        }
        log = now;
    }
    let mut all: Vec<(u16, usize)> = Vec::new();
    for line in log.lines().filter(|l| l.contains(&format!("GET {path} "))) {
        let status = line.split("\" ").nth(1).and_then(|l| l.split(' ').next()?.parse().ok()).unwrap_or(0);
        match all.iter_mut().find(|(s, _)| *s == status) {
            Some((_, n)) => *n += 1,
            None => all.push((status, 1)),
        }
    }
    all
}

#[test]
fn slices() {
    let Some(lab) = Lab::up("slices", 'f', true) else { return };
    let mut c = Checks::new();
    let www = lab.dir().join("www");
    // 20 MiB and a bit: 21 slices.
    let film = fs::read(www.join("200m")).expect("a file")[..20 * MIB as usize + 12_345].to_vec();
    for name in ["film", "seek", "resume", "crowd", "gone", "changing"] {
        fs::write(www.join(name), &film).expect("written");
    }
    let edge = lab.edge(&config(SITE));
    let get = |name: &str, more: &str| {
        lab.ask(60, &format!("curl -fsS {more} http://{EDGE_V4}/{name} | cmp - {}", www.join(name).display()))
    };

    c.check("cold: each slice once; then from the cache", || {
        for _ in 0..3 {
            get("film", "");
        }
        assert_eq!(answers(&lab, "/film"), [(206, 21)]);
    });
    c.check("a file that is larger than the cache, of objects larger than any may be", || {
        let name = "200m";
        let slices = (fs::metadata(www.join(name)).expect("a file").len().div_ceil(MIB)) as usize;
        assert!(slices > 150);
        get(name, "");
        assert_eq!(answers(&lab, "/200m"), [(206, slices)]);
        // Most of it is gone by now, and fetched again.
        get(name, "");
        let all = answers(&lab, "/200m");
        assert!(all.len() == 1 && all[0].1 > slices && all[0].1 <= 2 * slices, "{all:?}");
    });
    c.check("curl -r: what it needs; then the whole: what is missing", || {
        for (range, from, n) in [
            ("7000000-7000999", 7_000_000, 1000),
            ("5242000-5243999", 5_242_000, 2000),
            ("-700", 20_983_165, 700),
        ] {
            lab.ask(
                60,
                &format!(
                    "curl -fsS -r {range} http://{EDGE_V4}/seek | cmp - <(tail -c +{} {} | head -c {n})",
                    from + 1,
                    www.join("seek").display()
                ),
            );
        }
        // 6; 4 and 5, just not 6 (5242880 begins it): the last one, and the first for its length.
        assert_eq!(answers(&lab, "/seek"), [(206, 5)]);
        get("seek", "");
        assert_eq!(answers(&lab, "/seek"), [(206, 21)]);
    });
    c.check("curl -C -: the rest of it", || {
        let part = lab.dir().join("part");
        fs::write(&part, &film[..9_999_999]).expect("written");
        lab.ask(60, &format!("curl -fsS -C - -o {} http://{EDGE_V4}/resume", part.display()));
        assert!(fs::read(&part).expect("it") == film);
        // From the one with byte 9,999,999 on.
        assert_eq!(answers(&lab, "/resume"), [(206, 21 - 9)]);
    });
    c.check("many at once", || {
        crowd(&lab, &["crowd"]);
        assert_eq!(answers(&lab, "/crowd"), [(206, 21)]);
    });
    c.check("heads and conditions", || {
        let head = lab.ask(20, &format!("curl -fsSI http://{EDGE_V4}/film"));
        assert!(head.contains(&format!("Content-Length: {}", film.len())), "{head}");
        let etag = head.lines().find_map(|l| l.strip_prefix("ETag: ")).expect("nginx gives one").trim();
        let code = |more: &str| {
            lab.ask(20, &format!("curl -s -o /dev/null -w '%{{http_code}}' {more} http://{EDGE_V4}/film"))
        };
        assert_eq!(code(&format!("-H 'If-None-Match: {etag}'")), "304");
        assert_eq!(code(&format!("-H 'If-Range: {etag}' -r 5-9")), "206");
        assert_eq!(code("-H 'If-Range: \"other\"' -r 5-9"), "200");
        assert_eq!(code("-r 99999999-"), "416");
        assert_eq!(code("-r 1-2,7-8"), "206");
        assert_eq!(
            lab.ask(20, &format!("curl -s -o /dev/null -w '%{{http_code}}' http://{EDGE_V4}/0")),
            "200"
        );
    });
    c.check("purge by URL takes all slices", || {
        get("gone", "");
        let out = lab.millrace(&["purge", "--node", "e2e", &format!("http://{EDGE_V4}/gone")]);
        // The cache is full: some may have had to make room. None that was there is served again.
        let said = text(&out);
        let n = said.trim().strip_suffix(" objects purged").and_then(|n| n.parse::<usize>().ok());
        assert!(out.status.success() && n.is_some_and(|n| (2..=21).contains(&n)), "{said}");
        get("gone", "");
        assert_eq!(answers(&lab, "/gone"), [(206, 42)]);
    });
    c.check("a file that is replaced while it is sent", || {
        let new: Vec<u8> = film.iter().rev().copied().collect();
        let other = www.join("changing.new");
        fs::write(&other, &new).expect("written");
        let line = format!(
            "curl -sS --limit-rate 1M -o {0}/cut http://{EDGE_V4}/changing & p=$!; \
             for i in $(seq 200); do [ $(stat -c %s {0}/cut 2>/dev/null || echo 0) -gt 100000 ] && break; sleep 0.1; done; \
             mv {1} {2}; wait $p; echo $?",
            lab.dir().display(),
            other.display(),
            www.join("changing").display()
        );
        let code = lab.ask(60, &line);
        assert!(["18", "56"].contains(&code.as_str()), "curl ends with {code}");
        let cut = fs::read(lab.dir().join("cut")).expect("a part");
        assert!(cut.len() < film.len() && film.starts_with(&cut), "{} bytes, of one version", cut.len());
        get("changing", "");
    });
    c.check("purge by prefix and host", || {
        for what in [["--prefix", "http://10.80.0.1/fil"], ["--host", EDGE_V4]] {
            get("film", "");
            let out = lab.millrace(&[&["purge", "--node", "e2e", "--json"][..], &what].concat());
            let said: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
            assert!(said["objects"].as_u64().is_some_and(|n| n >= 2), "{said}");
            let before = answers(&lab, "/film")[0].1;
            get("film", "");
            assert_eq!(answers(&lab, "/film")[0].1, before + 21, "{what:?}");
        }
    });
    let s = edge.at_rest();
    assert!(count(&s, "cache.slices_mismatched") >= 1);
    assert_eq!(count(&s, "http.aborted"), count(&s, "cache.slices_mismatched"));
    drop(edge);
    if std::thread::available_parallelism().is_ok_and(|n| n.get() > 1) {
        c.check("many at once, on two cores", || {
            let line = "ip tuntap del mr0 mode tap && ip tuntap add mr0 mode tap multi_queue && \
                        ip link set mr0 master br0 up";
            assert!(lab.sh_in(&lab.net(), 10, line).status.success());
            let edge = lab.edge(&config(SITE).replace("name = \"e2e\"", "name = \"e2e\"\ncores = [0, 1]"));
            for name in ["two", "three"] {
                fs::write(www.join(name), &film).expect("written");
            }
            crowd(&lab, &["two", "three"]);
            for name in ["/two", "/three"] {
                assert_eq!(answers(&lab, name), [(206, 21)], "{name}");
            }
            let s = edge.at_rest();
            for core in s["cores"].as_array().expect("cores") {
                assert!(core["counters"]["cache.slices_served"].as_u64() > Some(0), "{core}");
            }
        });
    }
    c.end();
}

/// Twenty clients at once for each of these files.
fn crowd(lab: &Lab, names: &[&str]) {
    let www = lab.dir().join("www");
    let one = |name: &&str| {
        format!("curl -fsS http://{EDGE_V4}/{name} | cmp - {} & pids+=\" $!\";", www.join(name).display())
    };
    let all: String = names.iter().map(one).collect();
    lab.ask(90, &format!("for i in $(seq 20); do {all} done; for p in $pids; do wait $p || exit 1; done"));
}
