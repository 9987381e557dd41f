"""A sign-up: a record, an e-mail after a while, the confirmation of a person, and the end."""

from __future__ import annotations

import inspect
import random
from datetime import datetime, timedelta

from ..authoring.flow import Flow, flow
from ..authoring.signal import signal
from ..authoring.step import step


class SignupFlow(Flow):
    """Signs a user up. Waiting for the confirmation costs no thread, and survives restarts."""

    @flow(name="SignupFlow")
    async def sign_up(self, user_name: str, email: str) -> int:
        """Return the user's id once the e-mail address is confirmed."""
        user_id = await self.create_user_record(user_name, email)
        await self.send_welcome_email(user_id, email)
        await self.confirm_email_address()
        await self.finalize_signup(user_id)
        return user_id

    @step
    def create_user_record(self, user_name: str, email: str) -> int:
        """Make up a user id."""
        user_id = random.randrange(1000, 9999)  # noqa: S311 - a made-up id
        print(f"Created user record: {user_id} for {user_name} ({email})")  # noqa: T201 - the seeds print
        return user_id

    @step(delay=timedelta(seconds=10))
    def send_welcome_email(self, user_id: int, email: str) -> None:
        """Send the e-mail, ten seconds later."""
        print(f"Sending welcome email to {email} for user {user_id}")  # noqa: T201 - the seeds print
        print("✉️ Email sent! Please confirm your email address.")  # noqa: T201 - the seeds print

    @signal
    def confirm_email_address(self, confirmed_at: datetime) -> datetime:
        """Take the confirmation of a person."""
        print(f"Email confirmed at {confirmed_at}")  # noqa: T201 - the seeds print
        return confirmed_at

    @step
    def finalize_signup(self, user_id: int) -> None:
        """Finish."""
        print(f"✅ Signup finalized for user {user_id}")  # noqa: T201 - the seeds print


def signup_flow(delay: timedelta) -> type[SignupFlow]:
    """Return a `SignupFlow` that sends its e-mail after another delay; for the impatient, and for tests.

    The flow's name is the same, so either kind goes on with what the other began. A delay that has
    been recorded stays as it was.
    """

    class Delayed(SignupFlow):
        send_welcome_email = step(name="send_welcome_email", delay=delay)(
            inspect.unwrap(SignupFlow.send_welcome_email)
        )

    return Delayed
