"""What is odd about access rules that are valid: those that are never reached, and names that nobody has."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from aaa.decision import SITE_METHOD, STATES, Rule
from aaa.interface import Network


def review(
    rules: Sequence[Rule],
    *,
    users: Collection[str],
    groups: Collection[str],
    gateways: Collection[str],
) -> Iterator[str]:
    """Findings, each a sentence that names its rule.

    Args:
        rules: in order.
        users: all that there are, in lower case; and so on.
        groups: of all users.
        gateways: that have reported here; none have before the first start, and then nothing is said of them.
    """
    for index, rule in enumerate(rules):
        before = next((earlier for earlier in rules[:index] if _covers(earlier, rule)), None)
        if before is not None:
            yield f"rule {rule.name!r} is never reached: {before.name!r}, before it, decides all that it would"
        # Site peers stand in the settings, not among the users.
        people = rule.users if SITE_METHOD not in rule.methods else frozenset()
        for kind, named, known in (
            ("user", people, users),
            ("group", rule.groups, groups),
            ("gateway", rule.gateways, gateways or rule.gateways),
        ):
            strangers = sorted(named.difference(known))
            if strangers:
                yield f"rule {rule.name!r} names the {kind} {', '.join(map(repr, strangers))}, which nobody knows"
    if not any(rule.allows for rule in rules):
        yield "no rule lets anybody in"


def _covers(first: Rule, second: Rule) -> bool:
    """Whether the first takes all that the second would take; where that is hard to tell, no."""
    return (
        _takes_names(first.users, second.users)
        and _takes_names(first.groups, second.groups)
        and _takes_names(first.gateways, second.gateways)
        and _takes_methods(first, second)
        and _states(second) <= _states(first)
        and (first.shared_devices or not first.allows or (second.allows and not second.shared_devices))
        and _takes_places(first, second)
        and first.hours in (None, second.hours)
    )


def _takes_names(first: Collection[str], second: Collection[str]) -> bool:
    return not first or (bool(second) and set(second) <= set(first))


def _takes_methods(first: Rule, second: Rule) -> bool:
    if not first.methods:
        # Without a word of methods, a rule lets no site in.
        return not first.allows or SITE_METHOD not in second.methods
    named = bool(second.methods) and second.methods <= first.methods
    # A rule that allows one proof takes whoever shows that and another one; a rule that denies does not.
    return named and (first.allows or not second.allows)


def _states(rule: Rule) -> set[str]:
    return {state for state in STATES if rule.takes_state(state)}


def _takes_places(first: Rule, second: Rule) -> bool:
    if not first.from_networks:
        return True
    return bool(second.from_networks) and all(
        any(_is_within(network, other) for other in first.from_networks) for network in second.from_networks
    )


def _is_within(network: Network, other: Network) -> bool:
    return (
        network.version == other.version and network.prefixlen >= other.prefixlen and network.network_address in other
    )
