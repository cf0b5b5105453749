"""The command line's entry: commands, and errors as one sentence and a hint with exit code 2, never a traceback."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from workbench.cli import designing, explaining, looking, making, sets, showing, sweeping
from workbench.cli.printing import complain
from workbench.errors import RetouchError
from workbench.progress import Cancelled
from workbench.workspace.job import named_failure

FAILED = 2
INTERRUPTED = 130
# Typer has brought its own copy of click since 0.2x, so the class is found through one of its subclasses.
_ClickException: Any = next(item for item in typer.BadParameter.__mro__ if item.__name__ == "ClickException")


class Commands(TyperGroup):
    """A group whose commands end in a sentence, not in a traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line; what is no text in the encoding of this system ends it with exit code 2."""
        for text in args:
            if any(0xD800 <= ord(letter) <= 0xDFFF for letter in text):  # how Python keeps bytes that it could not read
                shown = text.encode("utf-8", "backslashreplace").decode()
                complain(f"The argument {shown:.80} holds bytes that are no UTF-8 text.", "Type it again, or put it into a file as UTF-8.")
                raise typer.Exit(FAILED)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an error leaves with exit code 2, an interruption with 130."""
        try:
            return super().invoke(ctx)
        except RetouchError as error:
            complain(str(error), error.hint)
        except _ClickException as error:
            where = error.ctx.command_path if getattr(error, "ctx", None) is not None else "retouch"
            complain(error.format_message(), f"Run: {where} --help")
        except (Cancelled, KeyboardInterrupt):
            complain("Interrupted.", "Nothing was changed.")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if type(error).__name__ in ("Exit", "Abort"):
                raise
            complain(*_reported(error, ctx))
        raise typer.Exit(FAILED)


def _reported(error: Exception, ctx: Any) -> tuple[str, str]:
    from workbench.resources import home

    asked = getattr(ctx, "invoked_subcommand", None) or "a command"
    failure = named_failure(error, str(asked), home() / "reports")
    return str(failure), failure.hint


app = typer.Typer(
    cls=Commands,
    name="retouch",
    help="Edit language models: fit, compare, measure, keep.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    showing.models,
    showing.methods,
    sets.demos,
    making.locate,
    making.fit,
    looking.generate,
    looking.compare,
    looking.look,
    looking.evaluate,
    sweeping.sweep,
    sweeping.equal_damage,
    explaining.influence,
    explaining.off_target,
    explaining.plane,
    explaining.watch,
    designing.design,
    making.keep_edit,
    making.export,
    showing.app,
):
    app.command()(command)


@app.callback()
def callback() -> None:
    """Edit language models: fit, compare, measure, keep."""
