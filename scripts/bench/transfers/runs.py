"""Transfers one after the other, each a row; and flows beside each other, for fairness."""

import json
import pathlib
import subprocess
import time

from .cells import OBJECTS, PATHS, SENDER, estimate_s, order
from .figures import steady_mbit
from .rig import EDGE, HOST, LINUX, RigError

# Of one transfer. A row that took longer is an error, and is told.
TIMEOUT_S = 60
OURS = ("tcp.retransmits", "tcp.rto", "tcp.fast_retransmits", "tcp.segments_out", "tcp.bytes_out")


def load():
    return float(pathlib.Path("/proc/loadavg").read_text().split()[0])


class Rows:
    """A line of JSON for each transfer; what is there already is not measured again."""

    def __init__(self, folder, resume, name="rows.jsonl"):
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / name
        self.rows = read_rows(self.file) if resume else []
        there = self.file.read_text() if self.file.exists() else ""
        if there and not resume:
            raise RigError(f"{self.file} is there already: --resume goes on with it, --out names another folder")
        if there and not there.endswith("\n"):
            # Half a line of a run that was killed; the next one is to have a line of its own.
            with open(self.file, "a") as f:
                f.write("\n")
        # A void one was repeated once, which is its second attempt.
        self.done = {key(r) for r in self.rows if not r["void"] or r["attempt"] == 2}

    def add(self, row):
        self.rows.append(row)
        with open(self.file, "a") as f:
            f.write(json.dumps(row) + "\n")


def key(row):
    """What a row is a measurement of."""
    return (row["cell"], row["seed"], row["sender"]) if "cell" in row else (row["path"], row["seed"], "+".join(row["pair"]))


def read_rows(file):
    if not file.exists():
        return []
    # A run that was killed may have left half a line.
    rows = []
    for line in file.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            pass
    return rows


def endpoint(sender):
    return (EDGE if sender.ours else LINUX), sender.port


def own_row(before, after):
    names = set(OURS) | {k for k in after if k.startswith("tcp.") and ("spurious" in k or "tlp" in k or "probe" in k)}
    return {k.removeprefix("tcp."): after.get(k, 0) - before.get(k, 0) for k in sorted(names)}


def transfer(rig, cell, sender, seed, attempt, capture=None):
    """One object over a link of its own; gives its row."""
    address, port = endpoint(sender)
    before = rig.counters() if sender.ours else None
    with rig.link(cell.words, seed) as link:
        dump = None
        if capture:
            dump = subprocess.Popen(
                rig.inside(rig.edge, "tcpdump", "-i", "link1", "-s", "128", "-B", "65536", "-w", str(capture), "tcp"),
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )
            time.sleep(0.5)
        rig.fetcher.order(
            id=f"{cell.name} {sender.name} {seed}", address=address, port=port, host=HOST, size=cell.size, timeout=TIMEOUT_S,
            linger=2e-3 * cell.rtt_ms + 0.3,
        )
        got = rig.fetcher.await_event("fetched", 2 * TIMEOUT_S)
        peer = {}
        if not sender.ours:
            # Its end comes with the client's FIN or RST.
            try:
                peer = rig.server.await_event("closed", 3, port=port)
            except RigError:
                pass
        time.sleep(1.5e-3 * cell.rtt_ms + 0.01)
        if dump:
            # What its ring holds comes with a delay.
            time.sleep(1.2)
            dump.terminate()
            dump.wait()
    own = own_row(before, rig.counters()) if sender.ours else {}
    report = link.report
    row = {
        "cell": cell.name, "sender": sender.name, "seed": seed, "attempt": attempt, "size": cell.size,
        "error": got["error"], "seconds": got.get("seconds"), "connected": got.get("connected"),
        "first_byte": got.get("first_byte"), "bytes": got["bytes"],
        "goodput_mbit": got["bytes"] * 8e-6 / got["seconds"] if not got["error"] else 0.0,
        "retransmits": own.get("retransmits") if sender.ours else peer.get("retransmits"),
        "sender_info": own if sender.ours else {k: v for k, v in peer.items() if k not in ("event", "port", "error")},
        "receiver_ooo": got.get("receiver", {}).get("rcv_ooopack"),
        "void": report["void"], "void_reasons": report["void_reasons"], "load": load(), "at": round(time.time(), 1),
    }
    for way in ("up", "down"):
        row[way] = {k: report[way][k] for k in ("offered", "lost", "queue_full", "reordered", "duplicated", "delivered")}
        row[way]["late_p99_us"] = round(report[way]["lateness_ns"]["p99"] / 1e3, 1)
    return row


def measure(rig, rows, cells, senders, seeds, say):
    """All of it, seed by seed: a machine that becomes busy is busy for every cell and sender."""
    names = [s.name for s in senders]
    whole = max(1, len(cells) * len(senders) * seeds)
    todo = [
        (seed, cell, SENDER[name])
        for seed in range(1, seeds + 1)
        for cell in cells
        for name in order(names, seed)
        if (cell.name, seed, name) not in rows.done
    ]
    say(f"{len(todo)} transfers, about {estimate_s(cells, senders, seeds) * len(todo) / whole / 60:.0f} minutes")
    began, void = time.monotonic(), 0
    for n, (seed, cell, sender) in enumerate(todo):
        for attempt in (1, 2):
            row = transfer(rig, cell, sender, seed, attempt)
            rows.add(row)
            void += row["void"]
            if not row["void"]:
                break
        each = (time.monotonic() - began) / (n + 1)
        note = f"  {row['error']}" if row["error"] else ""
        note += f"  void: {'; '.join(row['void_reasons'])}" if row["void"] else ""
        say(
            f"[{n + 1}/{len(todo)}, {each * (len(todo) - n - 1) / 60:.0f} min left, {void} void]  {cell.name:<34} seed {seed:<3} {sender.name:<14}"
            f"{row['goodput_mbit']:8.2f} Mbit/s {row['retransmits'] if row['retransmits'] is not None else '?':>5} again{note}"
        )


# --- fairness -----------------------------------------------------------------------------------------------

def share(rig, rows, pairs, seeds, seconds, say):
    """Each pair on each path under each seed, interleaved."""
    todo = [(s, path, pair) for s in range(1, seeds + 1) for path in PATHS for pair in pairs]
    todo = [t for t in todo if (t[1].name, t[0], "+".join(t[2])) not in rows.done]
    say(f"{len(todo)} runs of {seconds} s, about {len(todo) * (seconds + 1.5) / 60:.0f} minutes")
    for n, (seed, path, pair) in enumerate(todo):
        for attempt in (1, 2):
            row = flows(rig, path, [SENDER[name] for name in pair], seed, seconds) | {"attempt": attempt}
            rows.add(row)
            if not row["void"]:
                break
        rates = [steady_mbit(series, seconds / 3, seconds - 0.5) for series in row["series"]]
        note = f"  void: {'; '.join(row['void_reasons'])}" if row["void"] else ""
        say(
            f"[{n + 1}/{len(todo)}]  {path.name} seed {seed}  {' + '.join(f'{p} {r:.1f}' for p, r in zip(pair, rates, strict=True))} Mbit/s"
            f"{''.join(f'  {e}' for e in row['errors'] if e)}{note}"
        )


def flows(rig, path, pair, seed, seconds):
    """Two flows from `pair` share the bottleneck of `path` for so long; gives their row."""
    size = OBJECTS["150mb"]
    before = rig.counters()
    with rig.link(path.words, seed) as link:
        # In the bottleneck's queue like the data, both ways.
        ping = subprocess.Popen(
            rig.inside(rig.client, "ping", "-n", "-D", "-i", "0.05", "-w", str(int(seconds + 2)), LINUX),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        )
        try:
            began = time.time()
            for n, sender in enumerate(pair):
                address, port = endpoint(sender)
                rig.fetcher.order(
                    id=n, beside=True, address=address, port=port, host=HOST, size=size, timeout=TIMEOUT_S, seconds=seconds - n * 0.1,
                    every=0.1,
                )
                time.sleep(0.1)
            got = [rig.fetcher.await_event("fetched", seconds + 2 * TIMEOUT_S) for _ in pair]
            got.sort(key=lambda g: g["id"])
        finally:
            ping.terminate()
            out = ping.communicate()[0]
    pings = [
        [round(float(line.split("]")[0][1:]) - began, 3), float(line.split("time=")[1].split()[0])]
        for line in out.splitlines()
        if "time=" in line
    ]
    own = own_row(before, rig.counters())
    peers = []
    for sender in pair:
        if not sender.ours:
            try:
                info = rig.server.await_event("closed", 5, port=sender.port)
                peers.append({"sender": sender.name, **{k: v for k, v in info.items() if k not in ("event", "error")}})
            except RigError:
                pass
    report = link.report
    return {
        "path": path.name, "pair": [s.name for s in pair], "seed": seed, "seconds": seconds,
        "errors": [g["error"] for g in got], "series": [g["series"] for g in got], "pings": pings, "ours": own,
        "linux": peers, "void": report["void"], "void_reasons": report["void_reasons"],
        "down": {k: report["down"][k] for k in ("offered", "queue_full", "delivered")}, "load": load(),
        "at": round(time.time(), 1),
    }
