//! The table against the node in memory.

use crate::cache_cases::{Answer, Case, Got, all, faults};
use crate::rig::{answer, later, node};
use crate::support::peers::{Act, Asked, Peers};

const SECOND: u64 = 1_000_000_000;

#[test]
fn every_case_of_the_table() {
    let cases = all();
    let only = std::env::var("MILLRACE_CASE").unwrap_or_default();
    let mut p = node(1, 1024, 8 << 20);
    let mut bad = Vec::new();
    for (n, case) in cases.iter().enumerate().filter(|(_, c)| c.name.contains(&only)) {
        if let Err(e) = run(&mut p, n, case) {
            bad.push(format!("{} ({}): {e}", case.name, case.section));
        }
    }
    assert!(bad.is_empty(), "{} of {} cases fail:\n{}", bad.len(), cases.len(), bad.join("\n"));
    assert!(cases.len() >= 300, "only {} cases", cases.len());
}

/// The same on a route with slices, whose origin knows no ranges: what it answers is kept as ever.
#[test]
fn every_case_of_the_book_with_slices() {
    let mut p = node(1, 1024, 8 << 20);
    let mut bad = Vec::new();
    let mut n = 0;
    // Those that name the site's host; or where the origin answers with a part of its own choice, so that the request has
    // to be sent again without a range; or where a range is a miss that is not kept; or with Authorization, whose answers
    // are not kept on such a route.
    const OTHERS: [&str; 6] = [
        "ocation of a URL",
        "a 206 nobody asked for",
        "a range of nothing",
        "a part is not the answer",
        "Authorization",
        "a range of what is not stored",
    ];
    for mut case in all().into_iter().filter(|c| c.site == "book") {
        if OTHERS.iter().any(|part| case.name.contains(part)) {
            continue;
        }
        case.site = "slices";
        n += 1;
        if let Err(e) = run(&mut p, n, &case) {
            bad.push(format!("{} ({}): {e}", case.name, case.section));
        }
    }
    assert!(n >= 550, "only {n} cases");
    assert!(bad.is_empty(), "{} of {n} cases fail:\n{}", bad.len(), bad.join("\n"));
}

fn run(p: &mut Peers, n: usize, case: &Case) -> Result<(), String> {
    // Dates have seconds: every case begins right after one does.
    let second = p.now.0.div_ceil(SECOND) * SECOND;
    p.until(dataplane::Time(second + 10_000_000), &mut |_, _| Act::Close);
    let (url, host) = (format!("/c{n}"), format!("{}.lab", case.site));
    for (k, step) in case.steps.iter().enumerate() {
        if step.wait_ms > 0 {
            let mut asked = Vec::new();
            p.until(later(p, step.wait_ms), &mut |a: &Asked, _| {
                asked.push(a.1.clone());
                Act::Close
            });
            if !asked.is_empty() {
                return Err(format!("step {}: the origin was asked before: {asked:?}", k + 1));
            }
        }
        let unix_s = p.unix_s();
        let mut asked: Vec<String> = Vec::new();
        let mut origin = |a: &Asked, unix_s: u64| {
            let is_head = a.1.starts_with("HEAD ");
            let how = &step.answers[asked.len().min(step.answers.len() - 1)];
            asked.push(a.1.clone());
            match how {
                Answer::Reply(r) => {
                    let (bytes, ends) = r.bytes(is_head, &url, unix_s);
                    Act::Send(bytes, ends)
                }
                Answer::Close => Act::Close,
                Answer::Silence => Act::Hold,
            }
        };
        let client = p.connect(&step.request(&host, &url, unix_s));
        let mut got = answer(p, client, step.method == "HEAD", &mut origin);
        p.client_resets(client);
        p.settle(&mut origin);
        got.asked = asked;
        let bad = faults(step, &got, &url, unix_s, 0);
        if !bad.is_empty() {
            let Got { head, asked, .. } = got;
            return Err(format!("step {}: {}\n    {head:?}\n    {asked:?}", k + 1, bad.join("; ")));
        }
    }
    Ok(())
}
