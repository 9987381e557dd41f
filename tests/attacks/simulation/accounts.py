"""Random commands for event-sourced actors, whose replies are all that they have seen."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from simulation.clients import Command, CommandInVain, Look, Script, Told, Wait
from simulation.reference_flows import Account
from simulation.run import Scenario

if TYPE_CHECKING:
    from random import Random

    from simulation.clients import Order


def accounts_of(rng: Random) -> Scenario:
    """Make clients of a few accounts, which are passivated when nobody asks them for two seconds."""
    names = [f"actor-{number}" for number in range(rng.choice((1, 1, 2, 3)))]
    balances = Counter(dict.fromkeys(names, 0))
    scripts = [
        Script(
            tuple(_order(rng, rng.choice(names), f"{client}-{number}", balances) for number in range(size))
        )
        for client, size in enumerate(rng.randrange(2, 12) for _ in range(rng.randrange(1, 6)))
    ]
    return Scenario("accounts", [], tuple(scripts), {}, dict(balances))


def _order(rng: Random, stream: str, token: str, balances: Counter[str]) -> Order:
    amount = rng.randrange(1, 9)
    match rng.randrange(7):
        case 0 | 1:
            balances[stream] += amount
            return Command(Account.deposit, stream, token, amount)
        case 2:
            balances[stream] += 2 * amount
            return Command(Account.deposit_twice, stream, token, amount)
        case 3:
            return CommandInVain(Account.deposit_in_vain, stream, token)
        case 4:
            balances[stream] += amount
            return Told(Account.deposit, stream, token, amount)
        case 5:
            return Look(Account.seen, stream)
        case _:
            return Wait(rng.choice((0.01, 0.5, 1.9, 2.0, 2.1, 6.0)))
