//! What is known of one name, and what an answer changes. Without clocks and sockets.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Addresses that are kept of each family: a node tries no more.
pub const FAMILY_MAX: usize = 8;
/// Failed look-ups are repeated after at most this.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// However long an answer may be kept, it is looked up once a day.
const TTL_MAX: Duration = Duration::from_secs(86_400);

/// What a look-up of one family brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These addresses, for so long.
    Addresses(Vec<IpAddr>, Duration),
    /// The name has none of this family (or does not exist).
    Nothing,
    /// No answer, or one that says nothing about the name: why.
    Failed(String),
}

/// What is known of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    /// Rounds in a row that brought nothing.
    failures: u32,
}

/// What a round of look-ups means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Whether the set of addresses is another one.
    pub changed: bool,
    /// When to ask again.
    pub again: Instant,
    /// What to tell the operator.
    pub news: Option<News>,
}

/// What an operator wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The first failure after a success, or ever: why.
    Fails(String),
    /// It works again.
    Recovered,
}

impl Known {
    /// All addresses, IPv6 first, each family in order.
    pub fn addresses(&self) -> Vec<IpAddr> {
        [self.v6.as_slice(), self.v4.as_slice()].concat()
    }

    /// Takes the answers of a round. A family that failed keeps its last good addresses; so does a name that has
    /// none any more: an origin's name that is suddenly gone is more likely a mistake than a wish for an outage.
    pub fn take(&mut self, v4: Answer, v6: Answer, ttl_min: Duration, now: Instant) -> Round {
        let mut ttl = TTL_MAX;
        let mut whole = true;
        let mut reason = None;
        let mut read = |answer: Answer| match answer {
            Answer::Addresses(addresses, its) => {
                ttl = ttl.min(its);
                Some(tidy(addresses)).filter(|a| !a.is_empty())
            }
            Answer::Nothing => None,
            Answer::Failed(why) => {
                whole = false;
                reason.get_or_insert(why);
                None
            }
        };
        let kept = |answer: &Answer, old: &[IpAddr]| match answer {
            Answer::Failed(_) => old.to_vec(),
            _ => Vec::new(),
        };
        let (old4, old6) = (kept(&v4, &self.v4), kept(&v6, &self.v6));
        let (new4, new6) = (read(v4), read(v6));
        let answered = new4.is_some() || new6.is_some();
        if !answered {
            let why = reason.unwrap_or_else(|| "the name servers know none".to_string());
            return self.failed(why, ttl_min, now);
        }
        let before = (std::mem::take(&mut self.v4), std::mem::take(&mut self.v6));
        self.v4 = new4.unwrap_or(old4);
        self.v6 = new6.unwrap_or(old6);
        let news = (self.failures > 0).then_some(News::Recovered);
        self.failures = 0;
        // Half an answer is asked for again soon.
        let wait = if whole { ttl } else { ttl.min(RETRY_MAX) };
        Round { changed: before != (self.v4.clone(), self.v6.clone()), again: now + wait.max(ttl_min), news }
    }

    fn failed(&mut self, why: String, ttl_min: Duration, now: Instant) -> Round {
        self.failures = self.failures.saturating_add(1);
        let news = (self.failures == 1).then_some(News::Fails(why));
        let wait = ttl_min.saturating_mul(1 << (self.failures - 1).min(10)).min(RETRY_MAX).max(ttl_min);
        Round { changed: false, again: now + wait, news }
    }
}

/// In order, each once, and none that no host can have.
fn tidy(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.retain(|a| {
        !(a.is_unspecified() || a.is_multicast() || *a == IpAddr::V4(std::net::Ipv4Addr::BROADCAST))
    });
    addresses.sort();
    addresses.dedup();
    addresses.truncate(FAMILY_MAX);
    addresses
}

/// The addresses of a name in a file like /etc/hosts.
pub fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        if words.any(|w| w.strip_suffix('.').unwrap_or(w).eq_ignore_ascii_case(name)) {
            addresses.push(address);
        }
    }
    addresses
}

/// What a resolv.conf (5) says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// Up to three, as the C library has it; empty means 127.0.0.1.
    pub servers: Vec<IpAddr>,
    /// What is put behind names with fewer points than `ndots`.
    pub search: Vec<String>,
    /// See `search`.
    pub ndots: usize,
}

/// Reads a file like /etc/resolv.conf; what is not understood is left out, as by the C library.
pub fn resolv_conf(text: &str) -> ResolvConf {
    let mut conf = ResolvConf { servers: Vec::new(), search: Vec::new(), ndots: 1 };
    for line in text.lines().filter(|l| !l.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace();
        match words.next() {
            // A zone (`fe80::1%eth0`) is more than an address can carry here.
            Some("nameserver") if conf.servers.len() < 3 => {
                conf.servers.extend(words.next().and_then(|w| w.parse::<IpAddr>().ok()));
            }
            // The last one counts.
            Some("search" | "domain") => conf.search = words.map(str::to_string).collect(),
            Some("options") => {
                let ndots = words.filter_map(|w| w.strip_prefix("ndots:")?.parse().ok()).next_back();
                conf.ndots = ndots.map_or(conf.ndots, |n: usize| n.min(15));
            }
            _ => {}
        }
    }
    conf
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: Duration = Duration::from_secs(5);

    fn ips(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|t| t.parse().expect("an address")).collect()
    }

    fn found(text: &str, seconds: u64) -> Answer {
        Answer::Addresses(ips(text), Duration::from_secs(seconds))
    }

    fn failed() -> Answer {
        Answer::Failed("timed out".into())
    }

    /// Each step: the answers for A and AAAA; addresses, whether they changed, and seconds to the next round.
    #[test]
    fn rounds() {
        let now = Instant::now();
        let mut known = Known::default();
        let none = Answer::Nothing;
        let steps = [
            ("fails first", failed(), failed(), "", false, 5),
            ("and again", failed(), none.clone(), "", false, 10),
            ("an answer", found("192.0.2.2 192.0.2.1", 60), none.clone(), "192.0.2.1 192.0.2.2", true, 60),
            (
                "in another order",
                found("192.0.2.1 192.0.2.2", 30),
                none.clone(),
                "192.0.2.1 192.0.2.2",
                false,
                30,
            ),
            ("a short TTL", found("192.0.2.3 192.0.2.3", 0), none.clone(), "192.0.2.3", true, 5),
            ("both", found("192.0.2.3", 100), found("2001:db8::1", 50), "2001:db8::1 192.0.2.3", true, 50),
            ("half of it", failed(), found("2001:db8::1", 600), "2001:db8::1 192.0.2.3", false, 60),
            ("all of it fails", failed(), failed(), "2001:db8::1 192.0.2.3", false, 5),
            ("gone", none.clone(), none.clone(), "2001:db8::1 192.0.2.3", false, 10),
            ("one family gone", found("192.0.2.3", 70), none.clone(), "192.0.2.3", true, 70),
            ("nobody's", found("0.0.0.0 224.0.0.1", 70), none.clone(), "192.0.2.3", false, 5),
            ("for ever", found("192.0.2.4", 9_999_999), none, "192.0.2.4", true, 86_400),
        ];
        for (step, v4, v6, addresses, changed, seconds) in steps {
            let round = known.take(v4, v6, FLOOR, now);
            assert_eq!(known.addresses(), ips(addresses), "{step}");
            assert_eq!((round.changed, round.again - now), (changed, Duration::from_secs(seconds)), "{step}");
        }
    }

    #[test]
    fn news_come_once() {
        let now = Instant::now();
        let mut known = Known::default();
        known.take(found("192.0.2.1", 1), found("::1", 1), FLOOR, now);
        let mut news = |a: Answer| known.take(a, Answer::Nothing, FLOOR, now).news;
        assert_eq!(news(failed()), Some(News::Fails("timed out".into())));
        assert_eq!(news(Answer::Nothing), None);
        assert_eq!(news(found("192.0.2.1", 1)), Some(News::Recovered));
        assert_eq!(news(found("192.0.2.1", 1)), None);
        assert_eq!(news(Answer::Nothing), Some(News::Fails("the name servers know none".into())));
        for _ in 0..100 {
            known.take(failed(), failed(), FLOOR, now);
        }
        assert_eq!(known.take(failed(), failed(), FLOOR, now).again - now, RETRY_MAX);
    }

    #[test]
    fn hosts_files() {
        let text = "127.0.0.1 localhost\n# 192.0.2.9 a.example\n192.0.2.1\tother A.Example. # a\n::1 a.example\n\
                    bad a.example\n192.0.2.2 aa.example\n";
        assert_eq!(in_hosts(text, "a.example"), ips("192.0.2.1 ::1"));
        assert!(in_hosts(text, "b.example").is_empty());
    }

    #[test]
    fn resolv_confs() {
        let text = "# none\n; none\nnameserver 192.0.2.53\nnameserver ::1 # here\nnameserver fe80::1%eth0\n\
                    domain a.example\nsearch b.example c.example\noptions ndots:5 rotate timeout:1\nnameserver\n\
                    nameserver 192.0.2.54\nnameserver 192.0.2.55\n";
        let search = ["b.example", "c.example"].map(String::from).to_vec();
        let expected = ResolvConf { servers: ips("192.0.2.53 ::1 192.0.2.54"), search, ndots: 5 };
        assert_eq!(resolv_conf(text), expected);
        assert_eq!(resolv_conf(""), ResolvConf { servers: Vec::new(), search: Vec::new(), ndots: 1 });
    }
}
