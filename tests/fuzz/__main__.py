"""`python -m tests.fuzz [--packets N] [--seed N]`: attack the responder and print the figures."""

from __future__ import annotations

import click

from tests.fuzz.campaign import Campaign


@click.command()
@click.option("--packets", default=100_000, show_default=True, help="Hostile packets to send.")
@click.option("--seed", default=1, show_default=True, help="Another seed, other packets.")
def main(packets: int, seed: int) -> None:
    """Attack the IKEv2 responder in memory; ends with an error on an exception, a leak or state left behind."""
    click.echo(Campaign(seed).run(packets))


if __name__ == "__main__":
    main()
