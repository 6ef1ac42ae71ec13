//! The node over links that are long, narrow and lossy, on both sides (`scripts/lab/link`).

use crate::lab::{Checks, EDGE_V4, EDGE_V6, Lab, NGINX, config, count};

#[test]
fn over_bad_links() {
    let client = "delay 4ms jitter 1ms rate 200mbit limit 128kb loss 0.3% reorder 0.3% 1ms corrupt 0.2%";
    let Some(lab) =
        Lab::with_links("over_bad_links", 'l', client, "delay 2ms loss 0.2% burst 2 duplicate 0.5%")
    else {
        return;
    };
    let edge = lab.edge(&config(NGINX));
    let mut c = Checks::new();
    c.check("bodies come whole, over both families, and go whole the other way", || {
        let file = |name: &str| lab.dir().join("www").join(name).display().to_string();
        let expected = lab.ask(20, &format!("sha256sum <{}", file("1m")));
        for to in [EDGE_V4.to_owned(), format!("[{EDGE_V6}]")] {
            let got = lab.ask(60, &format!("curl -gsS --max-time 50 http://{to}/1m | sha256sum"));
            assert_eq!(got, expected, "from {to}");
        }
        lab.ask(60, &format!("curl -sS --max-time 50 -T {} http://{EDGE_V4}/upload/over", file("1m")));
        assert_eq!(lab.ask(20, &format!("sha256sum <{}", file("upload/over"))), expected);
    });
    c.check("small answers, many connections", || {
        let urls = format!("http://{EDGE_V4}/1k?[1-60]");
        let codes =
            lab.ask(60, &format!("curl -sS --max-time 50 -Z -o /dev/null -w '%{{http_code}}\\n' '{urls}'"));
        assert_eq!(codes.lines().filter(|code| *code == "200").count(), 60, "{codes}");
    });
    c.check("both laws hold exactly", || {
        let s = edge.at_rest();
        assert!(count(&s, "rx.packets") > 1000, "{}", s["counters"]);
    });
    c.end();
}
