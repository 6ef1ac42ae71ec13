"""The report: Markdown from a folder of rows."""

import datetime
import json
import pathlib
import shlex
import shutil
import subprocess

from . import figures
from .cells import BASE, CELLS, DEFAULT_SENDERS, PATHS, SENDERS, estimate_s
from .rig import LINK_CPU, OTHERS_CPU, SPIN, SYSCTLS
from .runs import read_rows

LEGENDS = {
    "ours": "Millrace", "ours-cubic": "Millrace CUBIC", "ours-bbr": "Millrace BBR", "ours-reno": "Millrace NewReno",
    "linux-cubic": "Linux CUBIC", "linux-cubic-2": "Linux CUBIC again", "linux-bbr": "Linux BBR v1",
}
AGAIN = "linux-cubic-2"
# BBR of ours against Linux's: at least this, with fewer retransmissions.
BBR_GOAL = 0.85


def listing():
    for cell in CELLS:
        print(f"{cell.name:<36} {cell.title}")
    print()
    for s in SENDERS:
        print(f"{s.name:<36} {LEGENDS[s.name]}")
    minutes = estimate_s(CELLS, DEFAULT_SENDERS, 25) / 60
    print(f"\nall cells, {len(DEFAULT_SENDERS)} senders, 25 seeds: about {minutes:.0f} minutes")


def said(*words, cwd=None):
    try:
        return subprocess.run([str(w) for w in words], capture_output=True, text=True, cwd=cwd).stdout.strip()
    except OSError:
        return ""


def note_rig(folder, argv, programs):
    """What was measured with, as it was at the beginning; goes on under --resume."""
    here = pathlib.Path(__file__).parent
    cpus = [line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    folder.mkdir(parents=True, exist_ok=True)
    millrace = said(programs[0], "version").splitlines()
    note = {
        "command": shlex.join(["scripts/bench/goodput", *argv[1:]]),
        "date": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
        "machine": f"{len(cpus)} x {cpus[0] if cpus else 'unknown'}, Linux {said('uname', '-r')}",
        "commit": said("git", "rev-parse", "--short", "HEAD", cwd=here) or "unknown",
        "with": millrace[0] if millrace else "unknown",
    }
    with open(folder / "rig.jsonl", "a") as f:
        f.write(json.dumps(note) + "\n")


# --- goodput ------------------------------------------------------------------------------------------------

def mbit(value):
    return "–" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def as_ratio(r):
    return "–" if r is None else f"{r['median']:.2f} ({r['low']:.2f}–{r['high']:.2f})"


def goodput_table(rows, cells, senders):
    """A line for each cell: medians, then paired ratios to the base."""
    others = [s for s in senders if s != BASE]
    lines = [
        "| Cell | " + " | ".join(LEGENDS[s] for s in senders) + " | " + " | ".join(f"{LEGENDS[s]} : {LEGENDS[BASE]}" for s in others) + " |",
        "|---|" + "---|" * (len(senders) + len(others)),
    ]
    for cell in cells:
        medians = [mbit(figures.median(figures.by(rows, cell, s).values())) for s in senders]
        each = []
        for s in others:
            r = figures.ratio(rows, cell, s, BASE)
            text = as_ratio(r)
            each.append(f"**{text}**" if r and s != AGAIN and r["high"] < 1.0 else text)
        lines.append(f"| `{cell}` | " + " | ".join(medians + each) + " |")
    return lines


def again_table(rows, cells, senders):
    lines = ["| Cell | " + " | ".join(LEGENDS[s] for s in senders) + " |", "|---|" + "---|" * len(senders)]
    for cell in cells:
        each = [figures.by(rows, cell, s, "retransmits").values() for s in senders]
        lines.append(f"| `{cell}` | " + " | ".join("–" if not e else f"{sum(e) / len(e):.1f}" for e in each) + " |")
    return lines


def verdicts(rows, cells, senders):
    """A line for each goal."""
    lines = []
    if AGAIN in senders:
        v = figures.verdict(rows, cells, AGAIN, BASE)
        off = [c for c, r in v["cells"].items() if r["high"] < 1.0 or r["low"] > 1.0]
        lines.append(
            f"- A/A: {LEGENDS[AGAIN]} is {v['median']:.3f} of {LEGENDS[BASE]} in the median of the cells; the interval leaves 1 out in "
            f"{len(off)} of {len(v['cells'])}{told(off)}."
        )
    for s in senders:
        if not s.startswith("ours"):
            continue
        v = figures.verdict(rows, cells, s, BASE)
        if not v["cells"]:
            continue
        lines.append(
            f"- {LEGENDS[s]} against {LEGENDS[BASE]}: {v['median']:.2f} in the median of the cells; wholly below 1 in {len(v['behind'])} of "
            f"{len(v['cells'])}{told(v['behind'])}." + ("" if s.endswith("bbr") else f" Goal (median ≥ 1, none below): **{'met' if v['met'] else 'missed'}**.")
        )
    for s in ("ours-bbr", "ours"):
        if s in senders and "linux-bbr" in senders:
            v = figures.verdict(rows, cells, s, "linux-bbr")
            a, b = ([r["retransmits"] for r in rows if r["sender"] == n and r["retransmits"] is not None] for n in (s, "linux-bbr"))
            if not v["cells"] or not a or not b:
                continue
            a, b = sum(a) / len(a), sum(b) / len(b)
            goal = f" Goal (≥ {BBR_GOAL}, fewer retransmissions): **{'met' if v['median'] >= BBR_GOAL and a < b else 'missed'}**." if s != "ours" else ""
            lines.append(
                f"- {LEGENDS[s]} against {LEGENDS['linux-bbr']}: {v['median']:.2f} in the median of the cells; {a:.1f} retransmissions a transfer, "
                f"Linux's {b:.1f}.{goal}"
            )
    return lines


def told(cells):
    return f" ({', '.join(f'`{c}`' for c in cells)})" if cells else ""


def goodput(rows):
    present = {r["sender"] for r in rows}
    senders = [s.name for s in SENDERS if s.name in present]
    cells = [c.name for c in CELLS if any(r["cell"] == c.name for r in rows)]
    used = figures.good(rows)
    void = [r for r in rows if r["void"]]
    twice = {(r["cell"], r["seed"], r["sender"]) for r in void} - {(r["cell"], r["seed"], r["sender"]) for r in used}
    errors = [r for r in used if r["error"]]
    loads = [r["load"] for r in rows]
    seeds = len({r["seed"] for r in used})
    text = [
        f"{len(used)} transfers under {seeds} seeds; {len(void)} runs were void, {len(twice)} of them also when repeated, and are left out. "
        f"{len(errors)} transfers failed and count as 0. Load average while it ran: {min(loads)} to {max(loads)}.", "",
        *(f"- failed: `{r['cell']}`, {LEGENDS[r['sender']]}, seed {r['seed']}: {r['error']}" for r in errors[:10]),
        "### In short", "", *verdicts(used, cells, senders), "",
        "### Goodput, Mbit/s", "", *goodput_table(used, cells, senders), "",
        "Medians of the seeds, then the median of the ratios seed by seed, with its 95 % bootstrap interval; bold: wholly below 1.", "",
        "### Retransmitted segments a transfer", "", *again_table(used, cells, senders), "", "Means. Ours are the node's `tcp.retransmits`, Linux's its `tcpi_total_retrans`.", "",
        "### The cells", "", "| Cell | Path |", "|---|---|", *(f"| `{c.name}` | {c.title} |" for c in CELLS if c.name in cells), "",
    ]
    return text


# --- fairness -----------------------------------------------------------------------------------------------

def fair_rows(rows):
    """For each path and pair: shares, Jain's index, round trips; medians over the seeds."""
    out = []
    for path in PATHS:
        names = []
        for r in rows:
            if r["path"] == path.name and r["pair"] not in names:
                names.append(r["pair"])
        for pair in names:
            mine = [r for r in rows if r["path"] == path.name and r["pair"] == pair and not r["void"] and not any(r["errors"])]
            if not mine:
                continue
            each, indices, rtts = [], [], []
            for r in mine:
                begin, end = r["seconds"] / 3, r["seconds"] - 0.5
                rates = [figures.steady_mbit(s, begin, end) for s in r["series"]]
                each.append(rates)
                indices.append(figures.jain(rates))
                rtts += [ms for at, ms in r["pings"] if begin <= at <= end]
            out.append({
                "path": path, "pair": pair, "runs": len(mine), "rates": [figures.median(v) for v in zip(*each, strict=True)],
                "jain": figures.median(indices), "jain_min": min(indices), "p50": figures.quantile(rtts, 0.5), "p95": figures.quantile(rtts, 0.95),
            })
    return out


def fairness(rows):
    lines = [
        "| Path | First | Second | Mbit/s | Share of the first | Jain’s index (least) | Ping p50, ms | p95 | Inflation p50 |", "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in fair_rows(rows):
        a, b = r["rates"]
        lines.append(
            f"| `{r['path'].name}` | {LEGENDS[r['pair'][0]]} | {LEGENDS[r['pair'][1]]} | {mbit(a)} + {mbit(b)} | {100 * a / (a + b):.0f} % | "
            f"{r['jain']:.3f} ({r['jain_min']:.3f}) | {r['p50']:.1f} | {r['p95']:.1f} | {r['p50'] / r['path'].rtt_ms:.2f} |"
        )
    void = sum(r["void"] for r in rows)
    seconds = rows[0]["seconds"]
    return [
        f"Two flows over one bottleneck of 100 Mbit/s with a drop-tail queue of 40 ms, the second 0.1 s after the first, for {seconds} s; what is told is of "
        f"the time from {seconds / 3:.0f} s to {seconds - 0.5:.1f} s. Medians of {max(r['seed'] for r in rows)} seeds; the least index of them in brackets. "
        f"Pings go through the same queue; inflation is their median over the path's round trip. Void runs, left out: {void}.", "",
        *lines, "",
    ]


# --- files --------------------------------------------------------------------------------------------------

def rig_text(folder):
    notes = read_rows(folder / "rig.jsonl")
    text = ["## Rig", "", "```"]
    text += list(dict.fromkeys(n["command"] for n in notes)) + ["```", "", "```"]
    if notes:
        text += [f"{k:<10}{notes[0][k]}" for k in ("date", "machine")]
        text += [f"{k:<10}{v}" for k in ("commit", "with") for v in dict.fromkeys(n[k] for n in notes)]
    text += [
        "```", "",
        "- Sender and receiver in namespaces of one machine, `scripts/lab/link` between them, started anew with the seed for each transfer: frame by "
        "frame the same are lost, late or doubled for each sender, as far as they send the same frames. Every word of a path holds in both directions. "
        f"Neighbours are fixed, IPv6 is off. The link runs on CPU {LINK_CPU} before all others and spins for the last {SPIN} before a frame is due; what "
        f"it hands over is dealt with on CPU {OTHERS_CPU} (`rps_cpus`).",
        "- Goodput: the object's bytes over the time from `connect()` to its last byte, on a connection of its own. All senders get the same request, one "
        "after the other under each seed, in an order that turns from seed to seed.",
        "- Millrace: one loop on a TAP device, objects in its cache. Linux: from memory, `write` in pieces of 1 MiB, `TCP_CONGESTION` on the socket, on a "
        "veth pair with `tx`, `tso`, `gso` and `gro` off, behind the same bridge. No queueing discipline on either: Linux's BBR paces by itself. The "
        "receiver is Linux for all.",
        "- Both kernels: " + ", ".join(f"`{k.split('/')[-1]}={v}`" for k, v in SYSCTLS.items() if "ipv4" in k) + "; all else as it comes.", "",
    ]
    return text


KEPT = ("cell", "sender", "seed", "attempt", "error", "seconds", "connected", "first_byte", "goodput_mbit", "retransmits", "void", "void_reasons", "load")


def kept(row):
    """What of a row goes into the tree: without what the kernel and the node tell of each connection."""
    out = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items() if k in KEPT}
    if "down" in row:
        out["down"] = {k: row["down"][k] for k in ("offered", "lost", "queue_full", "delivered", "late_p99_us")}
    return out


def report(folder, docs):
    print("\n".join(text(folder, docs)))


def text(folder, docs):
    """Its lines; with `docs`, they are also written there, with the rows beside them."""
    rows, fair = read_rows(folder / "rows.jsonl"), read_rows(folder / "fairness.jsonl")
    today = datetime.datetime.now(datetime.timezone.utc).date()
    lines = [f"# Goodput beside Linux: {today.day} {today:%B %Y}", "", *rig_text(folder)]
    if rows:
        lines += ["## Goodput", "", *goodput(rows)]
    if fair:
        lines += ["## Fairness", "", *fairness(fair)]
    if docs:
        name = f"{today}-goodput"
        beside = docs / name
        beside.mkdir(parents=True, exist_ok=True)
        if rows:
            (beside / "rows.jsonl").write_text("".join(json.dumps(kept(r)) + "\n" for r in rows))
        if fair:
            shutil.copy(folder / "fairness.jsonl", beside / "fairness.jsonl")
        lines += ["## Raw rows", "", f"Every transfer is a line in [{name}/rows.jsonl]({name}/rows.jsonl)" + (
            f", every shared run one in [{name}/fairness.jsonl]({name}/fairness.jsonl)" if fair else "") + ", the void ones too.", ""]
        (docs / f"{name}.md").write_text("\n".join(lines).rstrip() + "\n")
    return lines
