"""``invdiff app``."""

from __future__ import annotations

import os
import signal
import sys
import webbrowser
from contextlib import suppress
from pathlib import Path

import click

from ..errors import InvdiffError
from .machine import use_allowed_cpus
from .main import PLACE, debug_option, deterministic, device_option, main, say_error


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0: any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--let-others-in", is_flag=True, help="Allow a --host that other machines reach: nobody is asked who he is."
)
@click.option("--keep", type=PLACE, help="Folder in which results stay, a folder each.")
@click.option("--max-mb", type=click.IntRange(min=1), default=64, show_default=True, help="Largest file that is taken.")
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=2_000_000,
    show_default=True,
    help="Largest photo that is taken.",
)
@click.option(
    "--enlarge", metavar="RECIPE", default="blindsr_x4_photo", show_default=True, help="To sharpen and enlarge."
)
@click.option("--shake", metavar="RECIPE", default="deblur_ffhq", show_default=True, help="To remove shake.")
@click.option("--no-browser", is_flag=True, help="Do not open the page.")
@device_option
@debug_option
def app(
    port: int,
    host: str,
    let_others_in: bool,
    keep: Path | None,
    max_mb: int,
    max_pixels: int,
    enlarge: str,
    shake: str,
    no_browser: bool,
    device: str,
) -> None:
    """Open a page on this machine: drop a photo on it, see it restored, take it away."""
    try:
        from ..app.desk import Desk
        from ..app.guard import is_loopback
        from ..app.server import Intake, application, bound, server_of
        from ..app.tasks import tasks
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise InvdiffError("invdiff app needs starlette and uvicorn: pip install 'invdiff[app]'") from None
    from ..io.atomic import make_folder

    if not is_loopback(host) and not let_others_in:
        raise InvdiffError(f"--host {host}: other machines could use the page; if they may, add --let-others-in")
    use_allowed_cpus()
    deterministic()
    offered = tasks(enlarge, shake)
    for task in offered.values():  # a recipe that cannot be built is told now, not to whoever brings a photo
        task.pipeline(task.usual(), device)
    desk = Desk(device, None if keep is None else make_folder(keep))
    served = application(desk, offered, say_error, Intake(max_mb * 2**20, max_pixels), everyone=let_others_in)
    with bound(host, port) as listening:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}/"
        click.echo(f"{address} (Ctrl-C ends it, and removes what is not kept)")
        if not no_browser and _has_screen():
            webbrowser.open(address)
        if hasattr(signal, "SIGHUP"):  # the terminal was closed: end as if asked to
            signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        with suppress(KeyboardInterrupt):
            server_of(served).run(sockets=[listening])


def _has_screen() -> bool:
    """Elsewhere a browser would be one of letters, in this very terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
