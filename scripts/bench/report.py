#!/usr/bin/env python3
"""Writes the report of scripts/bench/run: tables, bars and latency pictures from the rows that it has measured.

Only the standard library; `report.py --help` is for scripts/bench/run, which gives all that it needs.
"""

import argparse
import datetime
import html
import json
import pathlib
import statistics
import subprocess

KINDS = {
    "cached-1k": "1 KiB from the cache",
    "cached-100k": "100 KiB from the cache",
    "proxied-1k": "1 KiB proxied, not cached",
    "proxied-100k": "100 KiB proxied, not cached",
    "tls-1k": "1 KiB from the cache, by TLS on kept connections",
    "tls-100k": "100 KiB from the cache, by TLS on kept connections",
    "tls-full": "A full handshake for each 1 KiB",
    "tls-resumed": "A resumed handshake for each 1 KiB",
}
LEGENDS = {
    "millrace-tap": "Millrace, tap",
    "millrace-af_packet": "Millrace, net_af_packet",
    "nginx": "nginx",
    "haproxy": "HAProxy",
    "varnish": "Varnish",
    "h2o": "H2O",
}
QUANTILES = (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))


def quantile(histogram, q):
    """The value that a share q of the samples does not exceed, of [[value, count], …]; None without samples."""
    total = sum(n for _, n in histogram)
    rank, seen = max(1, -(-total * q // 1)), 0
    for value, n in sorted(histogram):
        seen += n
        if seen >= rank:
            return value
    return None


def merged(rows):
    """All histograms of some rows as one."""
    sums = {}
    for row in rows:
        for value, n in row["histogram_us"]:
            sums[value] = sums.get(value, 0) + n
    return sorted([value, n] for value, n in sums.items())


def spread(values):
    values = [v for v in values if v is not None]
    return (statistics.median(values), min(values), max(values)) if values else None


def whole(n):
    return f"{n:,.0f}"


def per_cpu(row):
    return row["requests"] / max(row["cpu_seconds"], 0.01)


def per_busy(row):
    return row["requests"] / row["busy_seconds"] if row["busy_seconds"] else None


def table(rows, servers):
    """The table of one kind, and what its bars show."""
    lines = [
        "| | Requests/s | min–max | Per server-CPU second | min–max | p50 µs | p99 µs | p99.9 µs | Origin | Client CPU µs | Errors |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    bars = []
    for server in servers:
        mine = [r for r in rows if r["server"] == server]
        if not mine:
            continue
        legend = LEGENDS.get(server, server)
        rate = spread([r["requests"] / r["seconds"] for r in mine])
        latency = []
        for _, q in QUANTILES:
            each = [v for v in (quantile(r["histogram_us"], q) for r in mine) if v is not None]
            latency.append(f"{statistics.median(each):,.0f}" if each else "–")
        asked = sum(r["requests"] for r in mine)
        origin = sum(r["origin_requests"] for r in mine) / max(asked, 1)
        client = 1e6 * sum(r["client_cpu_seconds"] for r in mine) / max(asked, 1)
        errors = sum(r["errors"] for r in mine)
        ways = [("thread clock", spread([per_cpu(r) for r in mine]))]
        if server.startswith("millrace"):
            ways.append(("busy cycles", spread([per_busy(r) for r in mine])))
        for n, (way, cpu) in enumerate(ways):
            if cpu is None:
                continue
            name = f"{legend} ({way})" if len(ways) > 1 else legend
            bars.append((name, cpu))
            cells = [f"{whole(rate[0])} | {whole(rate[1])}–{whole(rate[2])}"] if n == 0 else [" | "]
            cells += [f"{whole(cpu[0])} | {whole(cpu[1])}–{whole(cpu[2])}"]
            cells += latency + [f"{origin:.3f}", f"{client:.1f}", whole(errors)] if n == 0 else [""] * 6
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines, bars


def beside_nginx(rows, servers):
    """What ours is to nginx, round by round: throughput, and CPU of the server for each request."""
    rows = [r for r in rows if r["requests"] > 0]
    nginx = {r["round"]: r for r in rows if r["server"] == "nginx"}
    lines = []
    for server in servers:
        pairs = [(r, nginx[r["round"]]) for r in rows if r["server"] == server and r["round"] in nginx]
        if not server.startswith("millrace") or not pairs:
            continue
        parts = []
        for what, ratios in (
            ("throughput", [a["requests"] / a["seconds"] / (b["requests"] / b["seconds"]) for a, b in pairs]),
            ("CPU a request by the thread clock", [per_cpu(b) / per_cpu(a) for a, b in pairs]),
            ("by busy cycles", [per_cpu(b) / per_busy(a) for a, b in pairs if per_busy(a)]),
        ):
            ratio = spread(ratios)
            if ratio:
                parts.append(f"{what} {ratio[0]:.2f} ({ratio[1]:.2f}–{ratio[2]:.2f})")
        lines.append(f"- {LEGENDS.get(server, server)} to nginx: " + ", ".join(parts) + ".")
    return lines


def handshakes(rows, servers):
    """What pktgen has agreed on with each server, and whether its handshakes were what they were meant to be."""
    lines = []
    for server in servers:
        mine = [r["tls"] for r in rows if r["server"] == server and r.get("tls")]
        if not mine:
            continue
        full, resumed, helped = (sum(t[key] for t in mine) for key in ("full", "resumed", "helped"))
        agreed = ", ".join(sorted({t["agreed"] or "nothing" for t in mine}))
        threads = f"; threads beside its core took {whole(helped)} steps" if server.startswith("millrace") else ""
        lines.append(f"- {LEGENDS.get(server, server)}: {agreed}; {whole(full)} full, {whole(resumed)} resumed{threads}.")
    return lines


def bars_svg(panels):
    """Horizontal bars of medians with whiskers from min to max; one panel under the other, each with its own scale."""
    width, left, right, line = 760, 266, 90, 30
    body, y = [], 0
    for title, bars in panels:
        body.append(f'<text class="title" x="16" y="{y + 28}">{html.escape(title)}</text>')
        y += 44
        most = max(high for _, (_, _, high) in bars) or 1
        scale = (width - left - right) / most
        for name, (median, low, high) in bars:
            middle = y + line / 2
            ours = "ours" if name.startswith("Millrace") else "peer"
            a, b = left + low * scale, left + high * scale
            body.append(f'<text x="{left - 8}" y="{middle + 4.5:.1f}" text-anchor="end">{html.escape(name)}</text>')
            body.append(
                f'<rect class="{ours}" x="{left}" y="{y + 5}" width="{median * scale:.1f}" height="{line - 10}">'
                f"<title>{whole(median)} ({whole(low)} to {whole(high)})</title></rect>"
            )
            body.append(
                f'<path class="whisker" d="M{a:.1f} {middle:.1f}H{b:.1f}M{a:.1f} {middle - 5:.1f}v10M{b:.1f} {middle - 5:.1f}v10"/>'
            )
            body.append(f'<text x="{b + 8:.1f}" y="{middle + 4.5:.1f}">{whole(median)}</text>')
            y += line
        body.append(f'<path class="axis" d="M{left} {y - line * len(bars)}V{y}"/>')
        y += 8
    y += 26
    body.append(f'<text class="quiet" x="16" y="{y - 10}">Requests per second of the server’s CPU time: medians of the rounds, from min to max.</text>')
    style = """text { font: 13px system-ui, sans-serif; fill: #1f2328; } .title { font-size: 15px; font-weight: 600; }
.quiet { fill: #59636e; } .ground { fill: #ffffff; } .ours { fill: #0072b2; } .peer { fill: #a3abb5; }
.whisker { stroke: #1f2328; fill: none; stroke-width: 1.5; } .axis { stroke: #818b98; fill: none; }
@media (prefers-color-scheme: dark) { text { fill: #f0f3f6; } .quiet { fill: #b1bac4; } .ground { fill: #151b23; }
.ours { fill: #3a94d1; } .peer { fill: #6b7480; } .whisker { stroke: #f0f3f6; } .axis { stroke: #9198a1; } }"""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" viewBox="0 0 {width} {y}" role="img">\n'
        f'<style>\n{style}\n</style>\n<rect class="ground" width="100%" height="100%"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def latencies(args, folder, kind, rows, servers):
    """Leaves each server's merged report beside the pictures that `pktgen compare` draws of them; gives their names."""
    reports = []
    for server in servers:
        mine = [r for r in rows if r["server"] == server]
        histogram = merged(mine)
        if not histogram:
            continue
        report = {
            "load": args.load,
            "seconds": sum(r["seconds"] for r in mine),
            "responses": sum(r["requests"] for r in mine),
            "errors": sum(r["errors"] for r in mine),
            "histogram_us": histogram,
        }
        file = folder / f"{kind}.{server}.json"
        file.write_text(json.dumps(report) + "\n")
        reports.append(f"{LEGENDS.get(server, server)}={file}")
    if len(reports) < 2:
        return []
    pictures = folder / f"{kind}"
    subprocess.run(
        [args.millrace, "pktgen", "compare", *reports, "--title", KINDS.get(kind, kind), "--svg", str(pictures)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    files = []
    for name in ("tail", "qq"):
        file = folder / f"{kind}-{name}.svg"
        (pictures / f"{name}.svg").rename(file)
        files.append(file)
    for rest in pictures.iterdir():
        rest.unlink()
    pictures.rmdir()
    return files


def read(file):
    return file.read_text().strip() if file.exists() else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("work", "out", "name", "command", "load", "millrace", "servers", "kinds"):
        parser.add_argument(f"--{option}", required=True)
    for option in ("rounds", "seconds", "connections"):
        parser.add_argument(f"--{option}", type=int, required=True)
    parser.add_argument("--draft", action="store_true")
    args = parser.parse_args()
    work, out = pathlib.Path(args.work), pathlib.Path(args.out)
    today = datetime.datetime.now(datetime.timezone.utc).date()
    folder = out / f"{today}-{args.name}"
    folder.mkdir(parents=True, exist_ok=True)
    servers, kinds = args.servers.split(), args.kinds.split()
    rows = [json.loads(f.read_text()) for f in sorted((work / "rows").glob("*.json"))]
    rows = [r for r in rows if r["server"] in servers and r["kind"] in kinds and r["round"] <= args.rounds]

    text = [f"# Side by side: {today:%d %B %Y}".replace(" 0", " "), ""]
    if args.draft:
        text += ["**A draft: the machine was busy with other work. Read nothing but how rows of one table stand to each other.**", ""]
    text += ["## Rig", ""]
    text += ["```", args.command, "```", "", "```"]
    text += [read(work / "machine"), *(f"{'with' if n == 0 else '':<10}{v}" for n, v in enumerate(read(work / "versions").splitlines()))]
    text += ["```", ""]
    if rows:
        loads = [r["machine_load"] for r in rows]
        text += [
            f"- {args.rounds} round{'s' if args.rounds > 1 else ''} of {args.seconds} s each, interleaved, after 1 s of warm-up; load by {args.load} over "
            f"{args.connections} connections that are kept. Load average while it ran: {min(loads)} to {max(loads)}.",
            "- Each server on CPU 1 with one worker and no access log, connections to the origin kept; the load and the origin "
            "(nginx, one worker) on CPU 0. All over one bridge: the peers behind a veth pair with the kernel's offloads, Millrace "
            "behind a TAP without them, and over DPDK's net_af_packet behind a veth pair, while client and origin have theirs off. "
            "The configs are in `scripts/bench/peers`.",
            "- **Per server-CPU second**: requests over the CPU time of the server's process, all threads, user and system. "
            "Millrace polls: its clock runs also while it finds nothing, so that it has a second row, by the cycles of passes that "
            "found something to do, with their system calls. Those run on while another program has the CPU: on a busy machine "
            "that row is too low.",
            *([
                "- TLS 1.3 with the same certificate (ECDSA, P-256) and X25519 for all, which is what nginx's OpenSSL has; with a "
                "client that knows it Millrace would take X25519MLKEM768, which costs both sides more. Handshakes: a connection, a "
                "handshake and 1 KiB each, by pktgen over 12 connections at most, which counts the time from the request on. It comes "
                "from 16 addresses, and Millrace's limit of handshakes of one source is raised to 1,000.",
            ] if any(k.startswith("tls-") for k in kinds) else []),
            "- H2O has no cache: what the others have cached, it serves from files.",
            "- Origin: requests that it saw for each of the client's. Client CPU: user and system time of the load, for each "
            "request. Medians of the rounds; errors are of all rounds.",
            *([
                "- wrk is a closed loop: it asks less of a server that stalls. It fills in the latencies that it reckons it has missed "
                "where an answer took longer than its average, so that it has more samples than answers. What was under way at the "
                "end of a round is the origin's beyond 0 or 1.",
            ] if args.load == "wrk" else []),
            "",
        ]
    missing = read(work / "left-out")
    if missing:
        text += ["Left out:", "", missing, ""]

    panels = []
    for kind in kinds:
        mine = [r for r in rows if r["kind"] == kind]
        if not mine:
            continue
        title = KINDS.get(kind, kind)
        lines, bars = table(mine, servers)
        panels.append((title, bars))
        text += [f"## {title}", "", *lines, ""]
        for notes in (beside_nginx(mine, servers), handshakes(mine, servers)):
            text += [*notes, ""] if notes else []
        for file in latencies(args, folder, kind, mine, servers):
            what = "latency by percentile" if "tail" in file.name else "quantiles against the first"
            text += [f"![{title}: {what}]({folder.name}/{file.name})", ""]
    if panels:
        (folder / "per-cpu-second.svg").write_text(bars_svg(panels))
        text += ["## Requests per server-CPU second", "", f"![Bars of the tables above]({folder.name}/per-cpu-second.svg)", ""]
        with open(folder / "rows.jsonl", "w") as f:
            for r in rows:
                f.write(json.dumps({k: v for k, v in r.items() if k != "histogram_us"}) + "\n")
    for section in sorted(work.glob("more-*.md")):
        text += [read(section), ""]
    if panels:
        text += [
            "## Raw rows",
            "",
            f"Every measurement is a line in [{folder.name}/rows.jsonl]({folder.name}/rows.jsonl); the latencies of all rounds of a "
            f"server and kind are `KIND.SERVER.json` beside it, as `millrace pktgen compare` reads them.",
            "",
        ]
    report = out / f"{today}-{args.name}.md"
    report.write_text("\n".join(text).rstrip() + "\n")
    print(f"report: {report}")


if __name__ == "__main__":
    main()
