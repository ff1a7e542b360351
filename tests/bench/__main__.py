"""`python -m tests.bench`: Ostiary against Debian's strongSwan and FreeRADIUS, both in this run, in turn."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from core.errors import OstiaryError
from tests.bench.contenders import Contender, OstiaryContender, StrongSwanContender
from tests.bench.handshakes import HandshakeResult, measure_handshakes
from tests.bench.kernel_throughput import measure_kernel_throughput
from tests.bench.radius import RadiusResult, measure_radius
from tests.bench.throughput import ThroughputResult, measure_throughput
from tests.bench.upkeep import UpkeepResult, measure_upkeep
from tests.lab.namespaces import Lab
from tests.lab.processes import LabError
from tests.lab.topology import build_site

PARTS = ("all", "handshakes", "upkeep", "throughput", "kernel-throughput", "radius")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for and print it; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        with Lab() as lab:
            site = build_site(lab)
            ostiary = OstiaryContender(site.gateway, lab.directory / "ostiary", options.esp)
            both: dict[str, Contender] = {ostiary.name: ostiary, "strongswan": StrongSwanContender(ostiary)}
            contenders = [both[name] for name in both if options.only in (None, name)]
            handshakes: list[HandshakeResult] = []
            throughput: list[ThroughputResult] = []
            upkeep: list[UpkeepResult] = []
            kernel: list[ThroughputResult] = []
            radius: list[RadiusResult] = []
            if options.part in ("all", "handshakes"):
                for concurrency in options.concurrency:
                    handshakes += measure_handshakes(
                        lab,
                        site,
                        contenders,
                        rounds=options.rounds,
                        count=options.handshakes,
                        concurrency=concurrency,
                    )
            if options.part in ("all", "upkeep"):
                upkeep = measure_upkeep(
                    lab, site, contenders, rounds=options.rounds, clients=options.clients, times=options.times
                )
            if options.part in ("all", "throughput"):
                throughput = measure_throughput(lab, site, contenders, rounds=options.rounds, seconds=options.seconds)
            ostiary.close()
            if options.part in ("all", "radius"):
                radius = measure_radius(lab, site, rounds=options.rounds, count=options.sign_ins)
            if options.part in ("all", "kernel-throughput"):
                names = [contender.name for contender in contenders]
                kernel = measure_kernel_throughput(names, rounds=options.rounds, seconds=options.seconds)
    except (LabError, OstiaryError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(_as_json(options, handshakes, upkeep, throughput, kernel, radius), indent=2))
    else:
        _print_text(options, handshakes, upkeep, throughput, kernel)
        _print_radius(radius)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("part", nargs="?", choices=PARTS, default="all")
    parser.add_argument("--only", choices=("ostiary", "strongswan"), help="measure one of them, without ratios")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (%(default)s)")
    parser.add_argument("--handshakes", type=int, default=2000, help="in each turn (%(default)s)")
    parser.add_argument(
        "--concurrency", type=int, nargs="+", default=(16, 64), help="handshakes at a time; each is measured (16 64)"
    )
    parser.add_argument("--clients", type=int, default=50, help="whose SAs are rekeyed and moved (%(default)s)")
    parser.add_argument("--times", type=int, default=20, help="how often each (%(default)s)")
    parser.add_argument("--sign-ins", type=int, default=200, help="by RADIUS in each turn (%(default)s)")
    parser.add_argument("--seconds", type=int, default=5, help="of each TCP stream (%(default)s)")
    parser.add_argument(
        "--esp", choices=("userspace", "kernel"), default="userspace", help="on both ends (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    return parser


def _print_text(
    options: argparse.Namespace,
    handshakes: Sequence[HandshakeResult],
    upkeep: Sequence[UpkeepResult],
    throughput: Sequence[ThroughputResult],
    kernel: Sequence[ThroughputResult],
) -> None:
    print(f"{_machine()}, {options.rounds} turns each, medians")
    for concurrency in options.concurrency:
        results = [result for result in handshakes if result.concurrency == concurrency]
        if not results:
            continue
        print(f"\nEAP-MSCHAPv2 handshakes per CPU second of the responder ({concurrency} at a time)")
        for result in results:
            turns = ", ".join(f"{item.per_cpu_s:.0f}" for item in result.rounds)
            best = min(item.median_ms for item in result.rounds)
            print(f"  {result.name:<11}{result.per_cpu_s:8.0f}   turns: {turns}; one takes {best:.1f} ms")
        _print_ratio([result.per_cpu_s for result in results])
    for task, title in (("rekeying", "Child SAs rekeyed"), ("move", "MOBIKE updates")):
        figures = [result for result in upkeep if result.task == task]
        if figures:
            print(f"\n{title} per CPU second of the responder ({options.clients} clients)")
        for figure in figures:
            turns = ", ".join(f"{value:.0f}" for value in figure.per_cpu_s_of_rounds)
            print(f"  {figure.name:<11}{figure.per_cpu_s:8.0f}   turns: {turns}")
        _print_ratio([figure.per_cpu_s for figure in figures])
    for rows, how in ((throughput, f"ESP in {options.esp}"), (kernel, "ESP in the test kernel, which has one CPU")):
        if not rows:
            continue
        print(f"\nMbit/s of one TCP stream through the tunnel, client strongSwan; on both ends {how}")
        for row in rows:
            print(f"  {row.name:<11}{row.upload_mbit_per_s:8.0f} up {row.download_mbit_per_s:8.0f} down")
        _print_ratio([row.upload_mbit_per_s for row in rows], "up")
        _print_ratio([row.download_mbit_per_s for row in rows], "down")


def _print_radius(results: Sequence[RadiusResult]) -> None:
    for method in dict.fromkeys(result.method for result in results):
        rows = [result for result in results if result.method == method]
        print(f"\n{method} sign-ins by RADIUS per CPU second of the server")
        for row in rows:
            turns = ", ".join(f"{value:.0f}" for value in row.per_cpu_s_of_rounds)
            print(f"  {row.name:<11}{row.per_cpu_s:8.0f}   turns: {turns}")
        print(f"  ostiary / freeradius: {rows[0].per_cpu_s / rows[1].per_cpu_s:.2f}")


def _print_ratio(values: Sequence[float], what: str = "") -> None:
    if len(values) == 2:
        print(f"  ostiary / strongswan {what}: {values[0] / values[1]:.2f}".replace(" :", ":"))


def _machine() -> str:
    return f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"


def _as_json(
    options: argparse.Namespace,
    handshakes: Sequence[HandshakeResult],
    upkeep: Sequence[UpkeepResult],
    throughput: Sequence[ThroughputResult],
    kernel: Sequence[ThroughputResult],
    radius: Sequence[RadiusResult],
) -> dict[str, Any]:
    return {
        "machine": _machine(),
        "handshakes": [{**asdict(result), "per_cpu_s": result.per_cpu_s} for result in handshakes],
        "upkeep": [{**asdict(result), "per_cpu_s": result.per_cpu_s} for result in upkeep],
        "throughput": [_throughput_as_json(row) for row in throughput],
        "radius": [{**asdict(result), "per_cpu_s": result.per_cpu_s} for result in radius],
        "kernel_throughput": [_throughput_as_json(row) for row in kernel],
    }


def _throughput_as_json(row: ThroughputResult) -> dict[str, Any]:
    return {
        **asdict(row),
        "upload_mbit_per_s": row.upload_mbit_per_s,
        "download_mbit_per_s": row.download_mbit_per_s,
    }


if __name__ == "__main__":
    sys.exit(main())
