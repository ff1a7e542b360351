"""`python -m tests.fuzz [--packets N] [--seed N] [--protocol radius]`: attack, and print the figures."""

from __future__ import annotations

import click

from tests.fuzz.campaign import Campaign
from tests.fuzz.radius import RadiusCampaign


@click.command()
@click.option("--packets", default=100_000, show_default=True, help="Hostile packets to send.")
@click.option("--seed", default=1, show_default=True, help="Another seed, other packets.")
@click.option("--protocol", type=click.Choice(["ike", "radius"]), default="ike", show_default=True, help="Which.")
def main(packets: int, seed: int, protocol: str) -> None:
    """Attack the IKEv2 responder or the RADIUS server in memory; ends with an error on an exception, a leak or state
    left behind.
    """
    campaign = Campaign(seed) if protocol == "ike" else RadiusCampaign(seed)
    click.echo(campaign.run(packets))


if __name__ == "__main__":
    main()
