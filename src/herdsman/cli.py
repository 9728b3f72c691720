"""The command line, thin: reads arguments, calls the library, turns errors into one sentence and an exit status."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from herdsman import __version__
from herdsman.commands import looking, models, planning, raising, scaling, weighing
from herdsman.commands.shared import fail
from herdsman.errors import HerdsmanError, machine_error

app = typer.Typer(
    help="Raise a herd of language models from raw web pages, the way Llama 3 was raised.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# In the order in which a newcomer meets them.
app.command("raise")(raising.raise_)
app.command()(raising.join)
app.command()(planning.plan)
app.command()(raising.rehearse)
app.command()(scaling.scale)
app.command()(weighing.forecast)
app.command()(weighing.mix)
app.command()(weighing.probe)
app.command()(looking.status)
app.command()(looking.report)
app.command()(looking.inspect)
app.command("import")(models.import_)
app.command()(models.export)
app.command()(models.chat)
app.command()(models.serve)
app.command()(looking.doctor)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if show:
        print(f"herdsman {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> Any:
    """Entry point: runs a command; a user's mistake or a machine's limit becomes one sentence on standard error."""
    try:
        return app(arguments, standalone_mode=True)
    except HerdsmanError as error:
        fail(str(error), error.exit_status)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except MemoryError:
        fail(
            "memory ran out; close other programs or choose a smaller recipe, then run again: finished work is kept", 1
        )
    except OSError as error:
        known = machine_error(error)
        if known is None:
            raise
        fail(str(known), known.exit_status)


if __name__ == "__main__":
    main()
