"""The boundary around every command: errors become sentences and exit statuses."""

from __future__ import annotations

import contextlib
import traceback
from typing import Any

import click

from harness.commands import signals
from harness.core.errors import EXIT_CRASH, EXIT_PIPE, HarnessError, refused
from harness.core.text import visible


class Group(click.Group):
    """Prints known errors as sentences, and says of any other error that it is a fault of ours."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with signals.as_interrupts():
                return super().invoke(ctx)
        except HarnessError as error:
            click.echo(visible(str(error)), err=True)
            ctx.exit(error.exit_code)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:  # the reader is gone; what else failed must not look like success
            ctx.exit(EXIT_PIPE)
        except KeyboardInterrupt as stop:
            with contextlib.suppress(OSError):  # the terminal itself may be gone
                click.echo("\nstopped; the next `harness run` goes on from here", err=True)
            ctx.exit(signals.exit_status(stop))
        except Exception as error:
            known = refused(error) if isinstance(error, OSError) else None
            if known is not None:
                click.echo(visible(str(known)), err=True)
                ctx.exit(known.exit_code)
            traceback.print_exc()
            click.echo("harness: this is a fault of the harness itself; please report it", err=True)
            ctx.exit(EXIT_CRASH)
