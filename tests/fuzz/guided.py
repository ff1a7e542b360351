"""`python -m tests.fuzz.guided TARGET [--seconds N]`: let coverage of the cores guide the fuzzer (libFuzzer).

What reaches new code is kept in `tests/fuzz/corpus/TARGET`, which every run of the tests replays; `--merge` reduces
the corpus to the inputs that it takes to reach all of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris
import click

MAX_INPUT_BYTES = 2048

with atheris.instrument_imports(include=["gateway.ike", "aaa.eap"]):
    from tests.fuzz.targets import CORPUS, TARGETS


@click.command()
@click.argument("target", type=click.Choice(sorted(TARGETS)))
@click.option("--seconds", default=60, show_default=True, help="How long.")
@click.option("--merge", type=click.Path(path_type=Path), help="Take what this folder has beyond the corpus into it.")
def main(target: str, seconds: int, merge: Path | None) -> None:
    """Fuzz one target; ends with an error, and a file `crash-...`, where an invariant does not hold."""
    corpus = CORPUS / target
    corpus.mkdir(parents=True, exist_ok=True)
    options = [f"-max_len={MAX_INPUT_BYTES}", "-timeout=30", "-print_final_stats=1"]
    work = [str(corpus)] if merge is None else ["-merge=1", str(corpus), str(merge)]
    if merge is None:
        options.append(f"-max_total_time={seconds}")
    atheris.Setup([sys.argv[0], *options, *work], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
