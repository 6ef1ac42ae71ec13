//! What time does to certificates while a node runs: it is told when it happens, as nobody reads the config then.
//!
//! Nothing has to be done: the cores look at the time in each handshake (`l7::tls::front`).

use crate::config::{Certificate, ShownTo, day, ends_in, ends_soon_from_s};

const DAY_S: i64 = 86_400;
/// Lines at a time. Where many run out at once, the first tell what is wrong.
const LINES_MAX: usize = 20;

/// A certificate that is in use.
#[derive(Clone, Copy)]
pub struct Shown<'c> {
    /// What is shown,
    pub certificate: &'c Certificate,
    /// and to whom.
    pub to: ShownTo,
    /// ACME is to renew it.
    pub by_acme: bool,
}

/// Tells of each event once.
pub struct Watch {
    /// What was before has been told of.
    looked_s: u64,
}

impl Watch {
    /// From now on, in seconds since 1970: what is so already was said when the config was read.
    pub fn new(now_s: u64) -> Watch {
        Watch { looked_s: now_s }
    }

    /// Once a second: lines for the log, about what has come since to those that are `shown`.
    pub fn look<'c>(&mut self, shown: impl Iterator<Item = Shown<'c>>, now_s: u64) -> Vec<String> {
        let since_s = std::mem::replace(&mut self.looked_s, now_s);
        let mut lines = Vec::new();
        let news = |shown: Shown<'_>| {
            [certificate_news(shown, since_s, now_s), response_news(shown.certificate, since_s, now_s)]
        };
        for line in shown.flat_map(news).flatten() {
            if lines.len() == LINES_MAX {
                lines.push("more certificates have run out, or will soon: see millrace check".to_owned());
                break;
            }
            // One that several sites show is told of once.
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        lines
    }
}

/// What has become of it since: its end is near, or was; once a day.
fn certificate_news(shown: Shown<'_>, since_s: u64, now_s: u64) -> Option<String> {
    let Shown { certificate, to, by_acme } = shown;
    let (since_s, now_s) = (since_s as i64, now_s as i64);
    let (soon_s, until_s) = (ends_soon_from_s(certificate.valid_unix_s), certificate.valid_unix_s.1);
    // Days that are left, begun ones too; 0 is the last second, below 0 are days after it.
    let day_of = |at_s: i64| match until_s - at_s {
        left_s @ 0.. => (left_s - 1).div_euclid(DAY_S) + 1,
        left_s => (left_s + 1) / DAY_S - 1,
    };
    let is_news = since_s < soon_s || day_of(since_s) != day_of(now_s);
    // A clock that is set back tells nothing.
    if now_s <= since_s || now_s < soon_s || day_of(now_s) == 0 || !is_news {
        return None;
    }
    let (file, date) = (certificate.chain_file.display(), day(until_s));
    let mend = match by_acme {
        true => "ACME has not renewed it yet: this log says why",
        false => "renew it, and reload",
    };
    Some(match until_s - now_s {
        ..0 => format!("the certificate \"{file}\" has expired on {date}: {} refuse it; {mend}", to.text()),
        left_s => format!("the certificate \"{file}\" expires {}, on {date}; {mend}", ends_in(left_s)),
    })
}

/// What has become of the response that is stapled to it.
fn response_news(certificate: &Certificate, since_s: u64, now_s: u64) -> Option<String> {
    let ocsp = certificate.ocsp.as_ref()?;
    let until_s = ocsp.good.until_s.filter(|until_s| (since_s..now_s).contains(until_s))?;
    let (file, date) = (ocsp.file.display(), day(until_s as i64));
    Some(format!(
        "the OCSP response \"{file}\" has expired on {date}: it is not sent to clients any more; get a newer one, and \
         reload"
    ))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use l7::tls::ocsp::Good;

    use super::*;
    use crate::cert::SelfSigned;
    use crate::config::{HostPattern, Ocsp};

    /// 2030-03-17, 17:46:40.
    const END_S: u64 = 1_900_000_000;

    fn certificate(file: &str, edit: impl FnOnce(&mut Certificate)) -> Arc<Certificate> {
        let names = vec![HostPattern::Exact("a.example".to_owned())];
        let mut made = SelfSigned::new(names, 30, false).expect("a certificate").as_in_config();
        let certificate = Arc::get_mut(&mut made).expect("nobody else has it");
        certificate.chain_file = PathBuf::from(file);
        edit(certificate);
        made
    }

    fn with_response(file: &str, until_s: Option<u64>) -> Arc<Certificate> {
        let good = Good { from_s: 0, until_s };
        certificate("a.pem", |c| c.ocsp = Some(Ocsp { file: PathBuf::from(file), der: [][..].into(), good }))
    }

    fn shown(all: &[Arc<Certificate>]) -> impl Iterator<Item = Shown<'_>> {
        all.iter().map(|certificate| Shown { certificate, to: ShownTo::Clients, by_acme: false })
    }

    /// What is told of one, with the time of each line.
    fn told(valid_unix_s: (i64, i64), by_acme: bool, at: impl Iterator<Item = u64>) -> Vec<(i64, String)> {
        let one = certificate("a.pem", |c| c.valid_unix_s = valid_unix_s);
        let mut at = at.peekable();
        let mut watch = Watch::new(at.peek().copied().expect("a time") - 1);
        let line = |at: u64| {
            let shown = Shown { certificate: &one, to: ShownTo::Clients, by_acme };
            let lines = watch.look([shown].into_iter(), at);
            assert!(lines.len() <= 1);
            lines.into_iter().next().map(|line| (at as i64 - END_S as i64, line))
        };
        at.filter_map(line).collect()
    }

    #[test]
    fn the_end_of_a_certificate_is_told_of_once_a_day() {
        let (end, day) = (END_S as i64, DAY_S);
        let every = |step: usize| (END_S - 20 * DAY_S as u64..END_S + 3 * DAY_S as u64).step_by(step);
        let lines = told((end - 90 * day, end), false, every(10));
        let times: Vec<i64> = lines.iter().map(|(at, _)| *at).collect();
        let expected: Vec<i64> = (-14..3).map(|n| n * day + if n < 0 { 0 } else { 10 }).collect();
        assert_eq!(times, expected);
        assert_eq!(
            lines[0].1,
            "the certificate \"a.pem\" expires in 14 days, on 2030-03-17; renew it, and reload"
        );
        assert!(
            lines[12].1.contains("expires in 2 days, on") && lines[13].1.contains("expires in 1 day, on")
        );
        for (_, line) in &lines[14..] {
            assert_eq!(
                line,
                "the certificate \"a.pem\" has expired on 2030-03-17: clients refuse it; renew it, and reload"
            );
        }
        // However late one looks, and where the clock is set back.
        let now = END_S - 5 * DAY_S as u64 + 100;
        let lines =
            told((end - 90 * day, end), true, [now - 10 * DAY_S as u64, now, now - 50, now].into_iter());
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0].1.ends_with(
                "expires in 5 days, on 2030-03-17; ACME has not renewed it yet: this log says why"
            )
        );
        // One for ten hours: when two of them are left.
        let lines = told((end - 36_000, end), false, every(60));
        let times: Vec<i64> = lines.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [-7_200, 60, day + 60, 2 * day + 60]);
        assert!(lines[0].1.contains("expires within a day, on 2030-03-17;"), "{}", lines[0].1);
        // One without an end, or that ends before it begins.
        assert!(told((0, i64::MAX), false, every(3600)).is_empty());
        assert_eq!(told((end + 1, end), false, every(3600)).len(), 3);
    }

    #[test]
    fn it_is_said_who_refuses_it() {
        let one = certificate("a.pem", |c| c.valid_unix_s = (0, END_S as i64));
        let to = |to| Shown { certificate: &one, to, by_acme: false };
        let both = [to(ShownTo::Origins), to(ShownTo::Clients)];
        let lines = Watch::new(END_S).look(both.into_iter(), END_S + 10);
        let said = |who| {
            format!(
                "the certificate \"a.pem\" has expired on 2030-03-17: {who} refuse it; renew it, and reload"
            )
        };
        assert_eq!(lines, [said("origins"), said("clients")]);
    }

    #[test]
    fn a_response_that_has_run_out_is_told_of_once() {
        let all = [with_response("a", Some(END_S)), with_response("b", None), certificate("c", |_| ())];
        let mut watch = Watch::new(END_S - 2);
        let mut told = Vec::new();
        for now_s in [END_S - 1, END_S, END_S + 1, END_S + 2, END_S - 1, END_S - 1, END_S, END_S] {
            told.push(watch.look(shown(&all).chain(shown(&all)), now_s));
        }
        let (told, others): (Vec<_>, Vec<_>) = told.into_iter().partition(|lines| !lines.is_empty());
        assert_eq!(
            told,
            [[
                "the OCSP response \"a\" has expired on 2030-03-17: it is not sent to clients any more; get a newer one, \
               and reload"
            ]]
        );
        assert_eq!(others.len(), 7);
        // It had run out when the node was started.
        assert_eq!(Watch::new(END_S + 1).look(shown(&all), END_S + 100), [""; 0]);
    }

    #[test]
    fn what_happens_to_many_at_once_is_told_of_some() {
        let all: Vec<_> = (0..2 * LINES_MAX).map(|n| with_response(&n.to_string(), Some(END_S))).collect();
        let lines = Watch::new(END_S - 1).look(shown(&all), END_S + 3600);
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert!(lines[LINES_MAX].contains("millrace check"));
    }
}
