//! Names of origins become addresses, on a control thread of its own.
//!
//! ```text
//!   /etc/hosts ─┐                                   ┌─► on_update(name, addresses): the cores' address sets
//!               ├─► A and AAAA, each round ─► Known ─┤
//!   name servers┘        ▲                          └─► log: the first failure, the recovery
//!                        └── again at the TTL's end, not before `ttl_min`; after a failure sooner
//! ```
//!
//! The last good addresses are kept while a look-up fails. A name without any address so far has an empty set:
//! requests for its origin are answered 503.

mod state;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config::{self, Config, OriginHost};
use crate::log;
use state::{Answer, Known, News, Round, in_hosts, resolv_conf};

/// Look-ups at a time: a config with thousands of names must not flood the name server.
const AT_ONCE_MAX: usize = 32;
/// For a try of one server; there are two.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);
/// For both families with all tries.
const ROUND_TIMEOUT: Duration = Duration::from_secs(10);
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How long an entry of /etc/hosts counts.
const HOSTS_TTL: Duration = Duration::from_secs(60);

/// Called with a name and all its addresses, IPv6 first, whenever the set has changed.
pub type OnUpdate = Box<dyn FnMut(&str, &[IpAddr]) + Send>;

/// How names are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name servers; empty means those of /etc/resolv.conf.
    pub servers: Vec<SocketAddr>,
    /// An answer is kept at least this long.
    pub ttl_min: Duration,
    /// The file that goes before the servers.
    pub hosts_file: PathBuf,
}

/// The resolver; its thread ends when this is dropped.
pub struct Resolve {
    shared: Arc<Shared>,
    orders: mpsc::UnboundedSender<Order>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Names(Settings, Vec<String>),
    Stop,
}

#[derive(Default)]
struct Shared {
    table: Mutex<Table>,
    /// Rung after each round of a name.
    round: Condvar,
}

#[derive(Default)]
struct Table {
    addresses: HashMap<String, Vec<IpAddr>>,
    /// Names that had no round yet.
    pending: usize,
}

impl From<&config::Resolver> for Settings {
    fn from(resolver: &config::Resolver) -> Settings {
        Settings {
            servers: resolver.servers.clone(),
            ttl_min: resolver.ttl_min,
            hosts_file: PathBuf::from("/etc/hosts"),
        }
    }
}

/// The names in a config's origins, each once.
pub fn names(config: &Config) -> Vec<String> {
    let hosts = config.upstreams.iter().flat_map(|u| &u.origins).map(|o| &o.host);
    let mut names: Vec<String> = hosts
        .filter_map(|host| match host {
            OriginHost::Name(name) => Some(name.clone()),
            OriginHost::Address(_) => None,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

impl Resolve {
    /// Starts looking up `names`. `on_update` runs on the resolver's thread.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(settings: Settings, names: Vec<String>, on_update: OnUpdate) -> io::Result<Resolve> {
        let shared = Arc::new(Shared::default());
        let (orders, inbox) = mpsc::unbounded_channel();
        shared.expect(&names);
        let _ = orders.send(Order::Names(settings, names));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let worker = Worker { shared: Arc::clone(&shared), on_update, names: HashMap::new() };
        let thread = std::thread::Builder::new()
            .name("resolve".to_string())
            .spawn(move || runtime.block_on(worker.run(inbox)))?;
        Ok(Resolve { shared, orders, thread: Some(thread) })
    }

    /// Another list of names, and other settings: for a reload. Names that stay keep what is known of them.
    pub fn set(&self, settings: Settings, names: Vec<String>) {
        self.shared.expect(&names);
        let _ = self.orders.send(Order::Names(settings, names));
    }

    /// Waits until each name has been looked up once, but not for longer than `timeout`; gives the names that
    /// have no address so far.
    pub fn wait_first(&self, timeout: Duration) -> Vec<String> {
        let table = self.shared.lock();
        let pending = |t: &mut Table| t.pending > 0;
        let (table, _) = self
            .shared
            .round
            .wait_timeout_while(table, timeout, pending)
            .unwrap_or_else(PoisonError::into_inner);
        let without = table.addresses.iter().filter(|(_, a)| a.is_empty());
        let mut names: Vec<String> = without.map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// The addresses of a name as of now, IPv6 first; empty when there are none yet.
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        self.shared.lock().addresses.get(name).cloned().unwrap_or_default()
    }
}

impl Drop for Resolve {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A list of names that are to be looked up.
    fn expect(&self, names: &[String]) {
        let mut table = self.lock();
        let old = std::mem::take(&mut table.addresses);
        for name in names {
            let known = old.get(name).cloned().unwrap_or_default();
            table.addresses.insert(name.clone(), known);
        }
        table.pending = table.addresses.len();
    }
}

/// What the thread has of a name.
struct Entry {
    known: Known,
    /// When to ask; `None` while a look-up is under way.
    due: Option<Instant>,
    /// Whether it had a round since the list was set.
    answered: bool,
}

struct Worker {
    shared: Arc<Shared>,
    on_update: OnUpdate,
    names: HashMap<String, Entry>,
}

/// A look-up that is over: the list that it belongs to, the name, A and AAAA.
type Done = (u64, String, Answer, Answer);

impl Worker {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        let mut running: JoinSet<Done> = JoinSet::new();
        let mut list = 0u64;
        let Some(Order::Names(mut settings, names)) = inbox.recv().await else { return };
        let mut resolver = resolver(&settings);
        self.set(names);
        loop {
            self.begin(list, &settings, &resolver, &mut running);
            let due = if running.len() < AT_ONCE_MAX { self.next_due() } else { None };
            let until_due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = inbox.recv() => match order {
                    Some(Order::Names(other, names)) => {
                        list += 1;
                        running.abort_all();
                        settings = other;
                        resolver = self::resolver(&settings);
                        self.set(names);
                    }
                    Some(Order::Stop) | None => return,
                },
                Some(done) = running.join_next() => {
                    if let Ok(done) = done && done.0 == list {
                        self.done(done, settings.ttl_min);
                    }
                }
                () = until_due => {}
            }
        }
    }

    fn set(&mut self, names: Vec<String>) {
        let mut old = std::mem::take(&mut self.names);
        let now = Instant::now();
        for name in names {
            let known = old.remove(&name).map(|e| e.known).unwrap_or_default();
            self.names.insert(name, Entry { known, due: Some(now), answered: false });
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.names.values().filter_map(|e| e.due).min()
    }

    /// Begins the look-ups whose time has come.
    fn begin(
        &mut self,
        list: u64,
        settings: &Settings,
        resolver: &TokioResolver,
        running: &mut JoinSet<Done>,
    ) {
        let now = Instant::now();
        for (name, entry) in self.names.iter_mut().filter(|(_, e)| e.due.is_some_and(|d| d <= now)) {
            if running.len() >= AT_ONCE_MAX {
                return;
            }
            entry.due = None;
            let (name, resolver, hosts) = (name.clone(), resolver.clone(), settings.hosts_file.clone());
            running.spawn(async move {
                let (v4, v6) = look_up(&name, &resolver, &hosts).await;
                (list, name, v4, v6)
            });
        }
    }

    fn done(&mut self, (_, name, v4, v6): Done, ttl_min: Duration) {
        let Some(entry) = self.names.get_mut(&name) else { return };
        let Round { changed, again, news } = entry.known.take(v4, v6, ttl_min, Instant::now());
        entry.due = Some(again);
        let addresses = entry.known.addresses();
        match news {
            Some(News::Fails(why)) if addresses.is_empty() => {
                log::warn(format_args!(
                    "origin {name} has no address ({why}); its requests are answered 503"
                ));
            }
            Some(News::Fails(why)) => {
                log::warn(format_args!(
                    "origin {name} can't be looked up ({why}); its last addresses are kept"
                ));
            }
            Some(News::Recovered) => log::info(format_args!("origin {name} can be looked up again")),
            None => {}
        }
        let first = !std::mem::replace(&mut entry.answered, true);
        if changed {
            (self.on_update)(&name, &addresses);
        }
        let mut table = self.shared.lock();
        if let Some(known) = table.addresses.get_mut(&name) {
            *known = addresses;
        }
        if first {
            table.pending = table.pending.saturating_sub(1);
            self.shared.round.notify_all();
        }
    }
}

/// Both families of a name.
async fn look_up(name: &str, resolver: &TokioResolver, hosts: &PathBuf) -> (Answer, Answer) {
    // Read each time: it is small, and operators change it without telling anybody.
    let in_file = std::fs::read_to_string(hosts).map(|text| in_hosts(&text, name)).unwrap_or_default();
    if !in_file.is_empty() {
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = in_file.into_iter().partition(IpAddr::is_ipv4);
        let answer =
            |a: Vec<IpAddr>| if a.is_empty() { Answer::Nothing } else { Answer::Addresses(a, HOSTS_TTL) };
        return (answer(v4), answer(v6));
    }
    tokio::join!(
        bounded(family(name, resolver, RecordType::A)),
        bounded(family(name, resolver, RecordType::AAAA))
    )
}

async fn bounded(answer: impl Future<Output = Answer>) -> Answer {
    tokio::time::timeout(ROUND_TIMEOUT, answer)
        .await
        .unwrap_or_else(|_| Answer::Failed("no answer in time".into()))
}

async fn family(name: &str, resolver: &TokioResolver, kind: RecordType) -> Answer {
    match resolver.lookup(name, kind).await {
        Ok(lookup) => {
            // A chain of aliases is good for as long as its shortest link.
            let ttl = lookup.answers().iter().map(|r| r.ttl).min().unwrap_or(0);
            let addresses = lookup.answers().iter().filter(|r| r.record_type() == kind);
            let addresses: Vec<IpAddr> = addresses.filter_map(|r| r.data.ip_addr()).collect();
            Answer::Addresses(addresses, Duration::from_secs(ttl.into()))
        }
        Err(error) => failure(&error),
    }
}

fn failure(error: &NetError) -> Answer {
    use hickory_resolver::net::DnsError;
    use hickory_resolver::proto::op::ResponseCode;
    match error {
        // SERVFAIL and REFUSED come as "no records" too, and mean nothing of the kind.
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => Answer::Nothing,
            code => Answer::Failed(format!("the name server says {code}")),
        },
        other => Answer::Failed(other.to_string()),
    }
}

fn resolver(settings: &Settings) -> TokioResolver {
    let mut conf = ResolverConfig::default();
    let mut ndots = 1;
    if settings.servers.is_empty() {
        let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_else(|error| {
            log::warn(format_args!("{RESOLV_CONF} can't be read ({error}); 127.0.0.1 is asked for names"));
            String::new()
        });
        let system = resolv_conf(&text);
        ndots = system.ndots;
        for domain in system.search.iter().filter_map(|d| Name::from_utf8(d).ok()) {
            conf.add_search(domain);
        }
        let local = system.servers.is_empty().then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        for ip in system.servers.into_iter().chain(local) {
            conf.add_name_server(server(SocketAddr::new(ip, 53)));
        }
    }
    for address in &settings.servers {
        conf.add_name_server(server(*address));
    }
    let mut builder = TokioResolver::builder_with_config(conf, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.ndots = ndots;
    options.timeout = TRY_TIMEOUT;
    options.attempts = 2;
    // Both are done here: each round is to bring what is true now.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.try_tcp_on_error = true;
    builder.build().expect("a resolver without TLS has nothing that fails")
}

fn server(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

#[cfg(test)]
mod tests;
