"""Namespaces, the link and the processes of a run; whatever happens, they are taken away again.

    NAME-client              NAME-link              NAME-edge                            NAME-linux
    ┌───────────────┐    ┌ ─ ─ ─ ─ ─ ─ ─ ┐    ┌──────────────────────────┐    ┌─────────────────────────┐
    │ ends.py fetch │      millrace-link      │  link1 ─ br0 ─ linux0    ├────┤ eth0 10.82.0.3          │
    │ eth0 ─────────┼─ ─ l0           l1 ─ ─ ─┼─         │               │    │ ends.py serve: Linux as │
    │ 10.82.0.2     │    │               │    │         mr0  10.82.0.1   │    │ the sender; our origin  │
    └───────────────┘    └ ─ ─ ─ ─ ─ ─ ─ ┘    │         our node         │    └─────────────────────────┘
                                              └──────────────────────────┘
Neighbours are fixed and IPv6 is off, so that the link sees the connection's frames and no others: with one seed the same
ones are lost. Both kernels have their offloads off: every frame on the link is one that a wire carries.
"""

import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
CLIENT, EDGE, LINUX = "10.82.0.2", "10.82.0.1", "10.82.0.3"
ORIGIN_PORT = 8080
# The cache knows objects by it.
HOST = "bench"
MAC = {CLIENT: "02:00:00:00:82:02", EDGE: "02:00:00:00:82:01", LINUX: "02:00:00:00:82:03"}
# The link has this one, in front of ordinary processes; what it hands over is dealt with on the other.
LINK_CPU, OTHERS_CPU = 0, 1
# How long the link spins before a frame is due: sleeping CPUs of a virtual machine wake late.
SPIN = "100us"
# Of both kernels. The rest is the kernel's default.
SYSCTLS = {
    "net/ipv4/tcp_no_metrics_save": "1",
    "net/ipv4/tcp_slow_start_after_idle": "1",
    "net/ipv4/tcp_wmem": "4096 16384 67108864",
    "net/ipv4/tcp_rmem": "4096 131072 67108864",
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv6/conf/default/disable_ipv6": "1",
}


class RigError(Exception):
    """What a person can mend."""


def sh(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise RigError(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


class Talker:
    """A process that is told things and tells things in lines of JSON."""

    def __init__(self, words, cwd=None, stderr=None):
        self.lines = queue.Queue()
        # A group of its own: Ctrl-C is ours to deal with.
        self.process = subprocess.Popen(
            words, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True
        )
        try:
            # The kernel shares CPUs between sessions first, where it groups by them; what is nice counts only within one.
            pathlib.Path(f"/proc/{self.process.pid}/autogroup").write_text("-20")
        except OSError:
            pass
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            try:
                self.lines.put(json.loads(line))
            except ValueError:
                self.lines.put({"event": "said", "text": line.strip()})
        self.lines.put({"event": "ended"})

    def order(self, **what):
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def await_event(self, name, seconds, **matching):
        until = time.monotonic() + seconds
        while True:
            try:
                said = self.lines.get(timeout=max(until - time.monotonic(), 0.001))
            except queue.Empty:
                raise RigError(f"{self.process.args[-3:]}: no {name} in {seconds:.0f} s") from None
            if said["event"] == "ended":
                raise RigError(f"{self.process.args}: ended with {self.process.wait()}")
            if said["event"] == name and all(said.get(k) == v for k, v in matching.items()):
                return said

    def end(self, how=signal.SIGTERM, seconds=8):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def prompt():
    """What goes before ordinary work on a busy machine: senders and receiver alike."""
    return ["nice", "-n", "-20"]


class Rig:
    """`with Rig(…) as rig:`"""

    def __init__(self, prefix, millrace, link):
        self.prefix, self.millrace, self.link_program = prefix, pathlib.Path(millrace), pathlib.Path(link)
        self.client, self.middle, self.edge, self.linux = (f"{prefix}-{n}" for n in ("client", "link", "edge", "linux"))
        self.talkers, self.made, self.dir, self.node = [], [], None, None
        self.fetcher = self.server = None
        self.algorithms = False

    # --- up and down ---

    def __enter__(self):
        if os.geteuid() != 0:
            raise RigError("namespaces and TAP devices need root")
        if (os.cpu_count() or 1) < 2:
            raise RigError("two CPUs are needed: one for the link, one for the rest")
        for tool in ("ip", "ethtool", "tc", "nice"):
            if not shutil.which(tool):
                raise RigError(f"{tool} is missing: scripts/setup.sh installs it")
        if not self.link_program.exists():
            raise RigError(f"no {self.link_program}: cargo build --release -p millrace-link, or set MILLRACE_LINK")
        try:
            self._up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for t in reversed(self.talkers):
            t.end()
        for ns in reversed(self.made):
            subprocess.run(["ip", "netns", "del", ns], capture_output=True)
        if self.dir:
            shutil.rmtree(self.dir, ignore_errors=True)

    def inside(self, ns, *words):
        return ["ip", "netns", "exec", ns, *words]

    def _up(self):
        for ns in (self.client, self.middle, self.edge, self.linux):
            if pathlib.Path("/run/netns", ns).exists():
                raise RigError(f"the namespace {ns} is there already: ip netns del {ns}, or another --prefix")
        self.dir = tempfile.mkdtemp(prefix="millrace-goodput.")
        for ns in (self.client, self.middle, self.edge, self.linux):
            sh("ip", "netns", "add", ns)
            self.made.append(ns)
            for path, value in SYSCTLS.items():
                sh(*self.inside(ns, "sh", "-c", f"echo {value} >/proc/sys/{path}"))
        self._pair(self.client, "eth0", self.middle, "l0", MAC[CLIENT])
        self._pair(self.edge, "link1", self.middle, "l1", None)
        self._pair(self.linux, "eth0", self.edge, "linux0", MAC[LINUX])
        sh("ip", "-n", self.edge, "link", "add", "br0", "type", "bridge")
        sh("ip", "-n", self.edge, "tuntap", "add", "dev", "mr0", "mode", "tap")
        sh("ip", "-n", self.edge, "link", "set", "mr0", "txqueuelen", "1000")
        sh("tc", "-n", self.edge, "qdisc", "replace", "dev", "mr0", "root", "noqueue")
        for device in ("link1", "linux0", "mr0"):
            sh("ip", "-n", self.edge, "link", "set", device, "master", "br0", "up")
        sh("ip", "-n", self.edge, "link", "set", "br0", "up")
        for ns, own in ((self.client, CLIENT), (self.linux, LINUX)):
            sh("ip", "-n", ns, "addr", "add", f"{own}/24", "dev", "eth0")
            sh(*self.inside(ns, "ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off", "gro", "off"))
            for other, mac in MAC.items():
                if other != own:
                    sh("ip", "-n", ns, "neigh", "replace", other, "lladdr", mac, "dev", "eth0", "nud", "permanent")
        for ns, device in ((self.client, "eth0"), (self.linux, "eth0"), (self.edge, "link1"), (self.edge, "linux0")):
            # Else the link's own thread would do the receivers' TCP in its system calls, and the Linux sender's with
            # each ACK that it hands over: a NIC has a CPU of its own for none of that.
            steer = f"echo {1 << OTHERS_CPU:x} >/sys/class/net/{device}/queues/rx-0/rps_cpus"
            sh(*self.inside(ns, "sh", "-c", steer))
        here = str(pathlib.Path(__file__).parents[1])
        ends = [*prompt(), sys.executable, "-B", "-m", "transfers.ends"]
        ports = ["8001=cubic", "8002=cubic", "8003=bbr", "8004=reno", f"{ORIGIN_PORT}=-"]
        self.server = self._talker(self.inside(self.linux, *ends, "serve", LINUX, *ports), cwd=here)
        self.server.await_event("ready", 10)
        self.fetcher = self._talker(self.inside(self.client, *ends, "fetch"), cwd=here)
        self.fetcher.await_event("ready", 10)

    def _pair(self, ns, device, other, peer, mac):
        sh("ip", "link", "add", device, "netns", ns, "type", "veth", "peer", "name", peer, "netns", other)
        if mac:
            sh("ip", "-n", ns, "link", "set", device, "address", mac)
        for where, what in ((ns, device), (ns, "lo"), (other, peer)):
            sh("ip", "-n", where, "link", "set", what, "up")

    def _talker(self, *args, **more):
        t = Talker(*args, **more)
        self.talkers.append(t)
        return t

    # --- our node ---

    def start_node(self, sizes, algorithms=True):
        """Starts it and fills its cache with objects of these sizes; whether it knows algorithms is left in
        `self.algorithms`."""
        if not self.millrace.exists():
            raise RigError(f"no {self.millrace}: cargo build --release, or set MILLRACE")
        config, self.largest = pathlib.Path(self.dir, "node.toml"), max(sizes)
        for self.algorithms in ((True, False) if algorithms else (False,)):
            config.write_text(self._config())
            judged = subprocess.run([self.millrace, "check", config], capture_output=True, text=True)
            if judged.returncode == 0:
                break
        else:
            raise RigError(f"{self.millrace} check: {judged.stdout}{judged.stderr}")
        log = open(pathlib.Path(self.dir, "node.log"), "w")
        run = [f"MILLRACE_RUN={self.dir}/run", str(self.millrace), "run", "--config", str(config)]
        pathlib.Path(self.dir, "run").mkdir(mode=0o700, exist_ok=True)
        self.node = self._talker(self.inside(self.edge, *prompt(), "env", *run), stderr=log)
        until = time.monotonic() + 20
        while True:
            try:
                if self.counters():
                    break
            except RigError:
                if time.monotonic() > until:
                    raise RigError(f"the node does not start: {self.node_log()}") from None
                time.sleep(0.1)
        port = 8001 if self.algorithms else 8004
        for size in sizes:
            for _ in range(2):
                self.fetch_here(f"http://{EDGE}:{port}/{size}", size)

    def fetch_here(self, url, size):
        """From the node's own side of the link."""
        curl = ["curl", "-sS", "-H", f"Host: {HOST}", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", "--max-time", "60"]
        out = sh(*self.inside(self.linux, *curl, "-o", "/dev/null", "-w", "%{http_code} %{size_download}", url))
        if out.split() != ["200", str(size)]:
            raise RigError(f"{url}: {out}; {self.node_log()}")

    def _config(self):
        listeners = [(8004, None)]
        if self.algorithms:
            listeners += [(8001, "cubic"), (8002, "bbr"), (8003, "reno")]
        # A new object may take a tenth of the cache before it is asked for again.
        memory = 512 if self.largest <= 10_000_000 else 2560
        text = f"""
[node]
name = "goodput"
memory = "{memory}MiB"
drain = "1s"

[[port]]
name = "lan"
kind = "tap"
device = "mr0"
checksums = "software"
segmentation = "software"
addresses = ["{EDGE}/24"]
mac = "{MAC[EDGE]}"

[cache]
memory = "{memory * 4 // 5}MiB"
object_max = "160MiB"
pinned_max = "{memory // 2}MiB"

[[site]]
hosts = "*"
origin = "http://{LINUX}:{ORIGIN_PORT}"
cache = true
"""
        for port, algorithm in listeners:
            text += f'\n[[listener]]\naddress = "{EDGE}"\nhttp = {port}\n'
            if algorithm:
                text += f'congestion = "{algorithm}"\n'
        return text

    def node_log(self):
        return pathlib.Path(self.dir, "node.log").read_text()[-2000:]

    def counters(self):
        done = subprocess.run(
            [self.millrace, "stats", "tcp", "--json"], capture_output=True, text=True, env={**os.environ, "MILLRACE_RUN": f"{self.dir}/run"}
        )
        if done.returncode != 0:
            raise RigError(f"millrace stats: {done.stderr.strip()}")
        return json.loads(done.stdout)["counters"]

    # --- the link ---

    def link(self, words, seed, seconds=600):
        return Link(self, words, seed, seconds)


class Link:
    """`with rig.link(words, seed) as link:`; its report is in `link.report` afterwards."""

    def __init__(self, rig, words, seed, seconds):
        self.rig, self.report = rig, None
        ends = [f"{rig.middle}/l0", f"{rig.middle}/l1"]
        self.words = [str(rig.link_program), "--json", "--quiet", "--cpu", str(LINK_CPU), "--spin", SPIN, "--seed", str(seed), "--for", f"{seconds}s", *ends, *words]

    def __enter__(self):
        self.talker = Talker(self.words)
        self.rig.talkers.append(self.talker)
        self.ready = self.talker.await_event("ready", 10)
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.talker.process.send_signal(signal.SIGTERM)
                self.report = self.talker.await_event("end", 10)
        finally:
            self.talker.end()
            self.rig.talkers.remove(self.talker)
