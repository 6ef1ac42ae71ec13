//! The table of conversations about caching (`tests/cache_cases`) over `tap`, with the kernel's TCP on both sides: those
//! that need no long waits, many at once on one node.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::cache_cases::{Answer, Case, Got, SITES, Step, all, faults};
use crate::http::{Client, End};
use crate::lab::{EDGE_V4, Lab, PATIENCE, config};

const ORIGIN: &str = "10.80.0.3:9020";
/// Cases that run at once.
const THREADS: usize = 24;

/// What the origin does about a case's requests just now, and what it has seen of them.
struct Now {
    step: Step,
    asked: Vec<String>,
}

type Script = Mutex<HashMap<usize, Now>>;

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

#[test]
fn the_table_over_tap() {
    let Some(lab) = Lab::up("the_table_over_tap", 't', false) else { return };
    let script = Arc::new(Script::default());
    origin(&lab, &script);
    let sites: String = SITES
        .iter()
        .map(|(name, cache)| {
            format!("[[site]]\nhosts = \"{name}.lab\"\norigin = \"http://{ORIGIN}\"\ncache = {cache}\n")
        })
        .collect();
    let edge = lab.edge(&config(&sites));
    let cases = all();
    let quick: Vec<(usize, &Case)> = cases.iter().enumerate().filter(|(_, c)| c.is_quick()).collect();
    let (next, bad) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let began = Instant::now();
    thread::scope(|s| {
        for _ in 0..THREADS {
            s.spawn(|| {
                while let Some((n, case)) = quick.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(e) = run(&lab, &script, *n, case) {
                        bad.lock().expect("whole").push(format!("{} ({}): {e}", case.name, case.section));
                    }
                }
            });
        }
    });
    eprintln!("{} cases in {:.1} s", quick.len(), began.elapsed().as_secs_f64());
    let bad = bad.into_inner().expect("whole");
    assert!(bad.is_empty(), "{} of {} cases fail:\n{}", bad.len(), quick.len(), bad.join("\n"));
    assert!(quick.len() >= 300, "only {} cases", quick.len());
    edge.at_rest();
}

fn run(lab: &Lab, script: &Script, n: usize, case: &Case) -> Result<(), String> {
    let (url, host) = (format!("/c{n}"), format!("{}.lab", case.site));
    let to: SocketAddr = format!("{EDGE_V4}:80").parse().expect("an address");
    let began = Instant::now();
    let mut virtual_ms = 0;
    for (k, step) in case.steps.iter().enumerate() {
        thread::sleep(Duration::from_millis(step.wait_ms));
        virtual_ms += step.wait_ms;
        script.lock().expect("whole").insert(n, Now { step: step.clone(), asked: Vec::new() });
        let at = unix_s();
        let mut c = Client::new(lab.connect(to).map_err(|e| e.to_string())?);
        c.send(step.request(&host, &url, at)).map_err(|e| e.to_string())?;
        let a = c.answer(step.method);
        drop(c);
        // What goes on behind the client's back.
        let until = Instant::now() + PATIENCE;
        let asked = || script.lock().expect("whole").get(&n).map_or(0, |now| now.asked.len());
        while step.want.asked.is_some_and(|want| asked() < want) && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        if k + 1 < case.steps.len() && asked() > 0 {
            // What was fetched behind a client's back is not there as soon as it is sent.
            thread::sleep(Duration::from_millis(50));
        }
        let asked = script.lock().expect("whole").remove(&n).map_or(Vec::new(), |now| now.asked);
        let got = Got { status: a.status, head: a.head, body: a.body, whole: a.end == End::Whole, asked };
        let slack_s = (began.elapsed().as_millis() as u64 - virtual_ms).div_ceil(1000) + 1;
        let bad = faults(step, &got, &url, at, slack_s);
        if !bad.is_empty() {
            return Err(format!("step {}: {}\n    {:?}", k + 1, bad.join("; "), got.head));
        }
    }
    Ok(())
}

/// The origin of all cases: each request is for the case that its path begins with. It ends with the process.
fn origin(lab: &Lab, script: &Arc<Script>) {
    let listener = lab.listen(ORIGIN.parse().expect("an address"));
    let script = Arc::clone(script);
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let script = Arc::clone(&script);
            // Whatever fails here, the client's side of the node is what is judged.
            thread::spawn(move || drop(serve(socket, &script)));
        }
    });
}

fn serve(mut socket: TcpStream, script: &Script) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut unread, mut buf) = (Vec::new(), [0; 16384]);
    loop {
        let (head, n) = loop {
            if let Some(whole) = request_in(&unread) {
                break whole;
            }
            let n = socket.read(&mut buf)?;
            if n == 0 {
                return Ok(());
            }
            unread.extend_from_slice(&buf[..n]);
        };
        unread.drain(..n);
        let path = head.split_whitespace().nth(1).unwrap_or_default();
        let digits: String = path.chars().skip(2).take_while(char::is_ascii_digit).collect();
        let number = digits.parse().unwrap_or(usize::MAX);
        let how = script.lock().expect("whole").get_mut(&number).map(|now| {
            let answers = &now.step.answers;
            let how = answers[now.asked.len().min(answers.len() - 1)].clone();
            now.asked.push(head.clone());
            how
        });
        // A case that does not expect a request any more has failed, or is about to.
        let Some(Answer::Reply(reply)) = how else { return Ok(()) };
        let (bytes, ends) = reply.bytes(head.starts_with("HEAD "), &format!("/c{number}"), unix_s());
        socket.write_all(&bytes)?;
        if ends {
            return Ok(());
        }
    }
}

/// The first request that is whole, as its head, and its length with the body.
fn request_in(input: &[u8]) -> Option<(String, usize)> {
    let at = input.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&input[..at]).into_owned();
    let length = crate::cache_cases::field(&head, "content-length").and_then(|v| v.parse().ok());
    let n = at + length.unwrap_or(0);
    (input.len() >= n).then_some((head, n))
}
