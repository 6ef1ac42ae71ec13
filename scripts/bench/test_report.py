"""Tests of report.py: python3 -m unittest scripts/bench/test_report.py"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import report  # noqa: E402


def row(server, round_, requests, kind="cached-1k"):
    return {
        "server": server, "kind": kind, "round": round_, "requests": requests, "seconds": 2.0, "cpu_seconds": 1.0,
        "busy_seconds": 0.5 if server.startswith("millrace") else None, "errors": 0, "origin_requests": 0,
        "client_cpu_seconds": 0.5, "machine_load": 1.5, "histogram_us": [[100, requests - 1], [9000, 1]],
    }


class Figures(unittest.TestCase):
    def test_quantiles_are_those_of_the_samples(self):
        histogram = [[20, 1], [10, 98], [30, 1]]
        self.assertEqual([report.quantile(histogram, q) for q in (0, 0.5, 0.98, 0.99, 1)], [10, 10, 10, 20, 30])
        self.assertIsNone(report.quantile([], 0.5))

    def test_rounds_are_merged_and_spread(self):
        self.assertEqual(report.merged([row("a", 1, 10), row("a", 2, 20)]), [[100, 28], [9000, 2]])
        self.assertEqual(report.spread([3, None, 1, 2]), (2, 1, 3))
        self.assertIsNone(report.spread([None]))

    def test_a_node_that_polls_has_two_rows(self):
        rows = [row("millrace-tap", n, 1000 * n) for n in (1, 2, 3)] + [row("nginx", 1, 500)]
        lines, bars = report.table(rows, ["millrace-tap", "nginx", "h2o"])
        self.assertEqual([name for name, _ in bars], ["Millrace, tap (thread clock)", "Millrace, tap (busy cycles)", "nginx"])
        self.assertEqual([b for _, b in bars], [(2000, 1000, 3000), (4000, 2000, 6000), (500, 500, 500)])
        self.assertEqual({line.count("|") for line in lines}, {12})
        self.assertIn("| 1,000 | 500–1,500 | 2,000 | 1,000–3,000 | 100 |", lines[2])

    def test_ours_is_held_against_nginx_round_by_round(self):
        rows = [row("millrace-tap", n, 1000 * n) for n in (1, 2)] + [row("nginx", n, 500) for n in (1, 2)]
        (line,) = report.beside_nginx(rows, ["millrace-tap", "nginx"])
        self.assertIn("throughput 3.00 (2.00–4.00), CPU a request by the thread clock 0.38 (0.25–0.50)", line)
        self.assertIn("by busy cycles 0.19 (0.12–0.25)", line)
        self.assertEqual(report.beside_nginx(rows[:2], ["millrace-tap"]), [])

    def test_handshakes_are_told(self):
        tls = {"agreed": "TLS 1.3", "full": 3, "resumed": 4, "helped": 0}
        rows = [{**row("nginx", n, 10, "tls-resumed"), "tls": tls} for n in (1, 2)] + [row("haproxy", 1, 10)]
        self.assertEqual(report.handshakes(rows, ["nginx", "haproxy"]), ["- nginx: TLS 1.3; 6 full, 8 resumed."])

    def test_bars_are_xml(self):
        svg = report.bars_svg([("a <&> b", [("x & y", (2, 1, 3)), ("z", (0, 0, 0))]), ("none", [("z", (0, 0, 0))])])
        self.assertEqual(ElementTree.fromstring(svg).tag, "{http://www.w3.org/2000/svg}svg")


class Whole(unittest.TestCase):
    def test_a_report_is_written_with_what_lies_beside_it(self):
        with tempfile.TemporaryDirectory() as folder:
            work, out = pathlib.Path(folder, "work"), pathlib.Path(folder, "out")
            (work / "rows").mkdir(parents=True)
            for server in ("millrace-tap", "nginx"):
                for n in (1, 2, 3):
                    (work / "rows" / f"{server}.cached-1k.{n}.json").write_text(json.dumps(row(server, n, 100 * n)))
            (work / "machine").write_text("machine   one\n")
            (work / "left-out").write_text("- h2o: it is not installed\n")
            (work / "more-sink.md").write_text("## Packets\n")
            # Stands for `millrace pktgen compare … --svg FOLDER`.
            stub = pathlib.Path(folder, "millrace")
            stub.write_text('#!/bin/sh\nfor last; do :; done\nmkdir "$last"; for n in tail cdf qq; do echo "<svg/>" >"$last/$n.svg"; done\n')
            stub.chmod(0o755)
            subprocess.run(
                [sys.executable, "-B", pathlib.Path(__file__).parent / "report.py", "--work", work, "--out", out, "--name", "x",
                 "--command", "run", "--load", "wrk", "--millrace", stub, "--servers", "millrace-tap nginx", "--kinds",
                 "cached-1k", "--rounds", "2", "--seconds", "1", "--connections", "8", "--draft"],
                check=True, stdout=subprocess.DEVNULL,
            )
            (text,) = [f.read_text() for f in out.glob("*-x.md")]
            for part in ("A draft", "## 1 KiB from the cache", "h2o: it is not installed", "## Packets", "cached-1k-tail.svg"):
                self.assertIn(part, text)
            (beside,) = out.glob("*-x")
            # The third round is beyond those that were asked for.
            self.assertEqual(len((beside / "rows.jsonl").read_text().splitlines()), 4)
            self.assertEqual(
                {f.name for f in beside.iterdir()},
                {"rows.jsonl", "per-cpu-second.svg", "cached-1k-tail.svg", "cached-1k-qq.svg", "cached-1k.nginx.json",
                 "cached-1k.millrace-tap.json"},
            )


if __name__ == "__main__":
    unittest.main()
