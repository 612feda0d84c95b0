"""The command line, put together: `mnist-pipeline`, also as `python -m mnist_pipeline`.

Here: which commands there are, and how one is started. What each does is beside this file; what it ends with, and the
table of exit codes, in `faults.py`. No command but `doctor` loads Dagster.
"""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mnist_pipeline.cli import decisions, predicting, tracing, versions
from mnist_pipeline.cli.faults import told
from mnist_pipeline.process import read_dotenv

CODES = (
    "Exit codes: 0 done, 1 something looked at is not as it should be, 2 wrong usage or settings, 3 no model in "
    "production, 4 no such version or nothing known of it, 5 refused, 6 somebody else decided first, 7 damaged, "
    "8 no storage, 130 interrupted."
    "\n\nmnist-pipeline COMMAND --help has examples."
)


class Telling(TyperGroup):
    """Commands whose faults are told as a sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run what was asked for."""
        with told():
            return super().invoke(ctx)


SERVE_EXAMPLES = "Examples:\n\n  mnist-pipeline serve\n\n  mnist-pipeline serve --host 0.0.0.0 --port 8080"
DOCTOR_EXAMPLES = "Example:\n\n  mnist-pipeline doctor && mnist-pipeline serve"
SHORT: dict[str, Any] = {"context_settings": {"help_option_names": ["-h", "--help"]}}
app = typer.Typer(
    name="mnist-pipeline",
    cls=Telling,
    help="Predict with the model in production, look at versions and decisions, deploy and roll back.",
    epilog=CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    **SHORT,
)
models = typer.Typer(help="The stored versions of the model.", no_args_is_help=True, **SHORT)


def serve(
    host: Annotated[str, typer.Option(help="Default: MNIST_SERVE_HOST, else 127.0.0.1.")] = "",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0: a free one. Default: MNIST_SERVE_PORT.")
    ] = None,
) -> None:
    """Answer over HTTP what is in production, with a page to draw on."""
    from mnist_pipeline.service.__main__ import main as serve_main

    given = [*(["--host", host] if host else []), *(["--port", str(port)] if port is not None else [])]
    raise typer.Exit(serve_main(given))


def doctor() -> None:
    """Look whether everything is there that the pipeline needs to run by itself; the exit code is 1 if not."""
    from mnist_pipeline.doctor import main as examine

    raise typer.Exit(examine())


app.command(epilog=predicting.EXAMPLES, **SHORT)(predicting.predict)
app.command(epilog=SERVE_EXAMPLES, **SHORT)(serve)
app.add_typer(models, name="models")
models.command("list", epilog=versions.LIST_EXAMPLES, **SHORT)(versions.list_versions)
models.command("show", epilog=versions.SHOW_EXAMPLES, **SHORT)(versions.show_version)
models.command("diff", epilog=versions.DIFF_EXAMPLES, **SHORT)(versions.diff_versions)
app.command(epilog=decisions.DEPLOY_EXAMPLES, **SHORT)(decisions.deploy)
app.command(epilog=decisions.ROLLBACK_EXAMPLES, **SHORT)(decisions.rollback)
app.command(epilog=decisions.CHALLENGE_EXAMPLES, **SHORT)(decisions.challenge)
app.command(epilog=decisions.WITHDRAW_EXAMPLES, **SHORT)(decisions.withdraw)
app.command(epilog=decisions.DECISIONS_EXAMPLES, **SHORT)(decisions.decisions)
app.command(epilog=tracing.EXAMPLES, **SHORT)(tracing.trace)
app.command(epilog=DOCTOR_EXAMPLES, **SHORT)(doctor)


def main() -> None:
    """The entry point. Names of files may hold bytes that no encoding knows: they are shown, not stumbled over."""
    read_dotenv()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    app.rich_markup_mode = "rich" if sys.stdout.isatty() else None  # help without frames in a pipe
    app(prog_name="mnist-pipeline")
