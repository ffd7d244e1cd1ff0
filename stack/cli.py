"""The ``evergreen`` command: which commands there are, and how failures leave the process."""

from __future__ import annotations

import sys

import typer

from core.errors import EvergreenError, SettingsError
from core.settings import share_cores
from stack.commands import compare, history, inspect, lifecycle, promotion, rollout, show, versions
from stack.commands import drill as drill_command
from stack.commands import explain as explain_command
from stack.commands import export as export_command
from stack.commands import features as feature_commands
from stack.commands import keys as key_commands
from stack.commands import new as new_command
from stack.commands import replay as replay_command
from stack.commands import test as test_command
from stack.commands.console import say_error

DONE, NO, USAGE = 0, 1, 2

app = typer.Typer(
    name="evergreen",
    help="Keeps machine-learning models current: one file per use case, one loop from events to served versions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
features = typer.Typer(help="The feature stores.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(features, name="features")
keys = typer.Typer(help="The API keys of the gateway.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(keys, name="keys")

for command in (
    lifecycle.up, lifecycle.down, inspect.status, inspect.doctor, inspect.check,
    versions.retrain, promotion.promote, promotion.approve, promotion.rollback, history.history,
    explain_command.explain, replay_command.replay, rollout.canary, rollout.shadow,
    compare.compare, export_command.export, test_command.test, lifecycle.demo,
    drill_command.drill, new_command.new,
):  # fmt: skip
    app.command()(command)
features.command()(feature_commands.rebuild)
features.command()(feature_commands.audit)
features.command()(show.show)
features.command()(feature_commands.compact)
keys.command()(key_commands.create)
keys.command("list")(key_commands.list_keys)
keys.command()(key_commands.rotate)
keys.command()(key_commands.revoke)


def main() -> None:
    """Run one command. Exit code 0: done; 1: the answer is no, or it failed; 2: wrong usage or settings."""
    share_cores()
    try:
        app(prog_name="evergreen")
    except SettingsError as error:
        say_error(error)
        sys.exit(USAGE)
    except EvergreenError as error:
        say_error(error)
        sys.exit(NO)


if __name__ == "__main__":
    main()
