"""An event-sourced actor for tests that need one, whichever: what is deposited, it adds up."""

from __future__ import annotations

import msgspec
from persistasaurus import EventSourcedActor, command


class Deposited(msgspec.Struct, tag="deposited"):
    amount: int


class AccountState(msgspec.Struct):
    balance: int = 0


class Account(EventSourcedActor[AccountState, Deposited], name="account"):
    def apply(self, state: AccountState, event: Deposited) -> None:
        state.balance += event.amount

    @command
    def deposit(self, amount: int) -> int:
        self.record(Deposited(amount))
        return self.state.balance
