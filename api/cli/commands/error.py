"""The command `error`: explains an error's code, from the page of the documentation in the package."""

from __future__ import annotations

import re
from importlib import resources

import click

from ..options import command
from ..output.exit_codes import DONE
from ..output.spelling import did_you_mean

_PACKAGE = __name__.partition(".")[0]
_SECTION = re.compile(r"^### (?P<code>[\w-]+)\n+(?P<text>.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"`(\w+)`")


def sections() -> dict[str, str]:
    """Return the sections of docs/errors.md, by code."""
    page = resources.files(_PACKAGE).joinpath("docs", "errors.md").read_text(encoding="utf-8")
    return {found["code"]: found["text"].strip() for found in _SECTION.finditer(page)}


def complete_codes(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    return [code for code in sections() if code.startswith(incomplete)]


@command("error", example="persistasaurus error flow-not-found", on_store=False)
@click.argument("code", required=False, shell_complete=complete_codes)
def error(*, code: str | None) -> int:
    """Explain the code of an error, and what to do about it; without CODE, list all codes.

    A code is in brackets after a message of this command, at the end of `type` in an HTTP response, and in
    `error.code` in Python. You can also give the name of an exception class.
    """
    known = sections()
    if code is None:
        click.echo("\n".join(known))
        return DONE
    names = {found[1]: of for of, text in known.items() if (found := _NAME.match(text))}
    chosen = names.get(code, code)
    if chosen not in known:
        raise click.BadParameter(
            f"{code!r} is not the code of an error; `persistasaurus error` lists all codes."
            + did_you_mean(code, [*known, *names])
        )
    click.echo(f"{chosen}\n\n{known[chosen]}")
    return DONE
