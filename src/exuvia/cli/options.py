"""How every command takes its options: from the command line, EXUVIA_… or a TOML file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def option(*names: str, **settings: Any) -> Callable[[Any], Any]:
    """Return click.option that can also be given as EXUVIA_NAME in the environment."""
    long = next(name for name in names if name.startswith("--")).split("/")[0]
    variable = "EXUVIA_" + long.removeprefix("--").replace("-", "_").upper()
    return click.option(*names, envvar=variable, show_envvar=False, **settings)


def config_file(default: str) -> Callable[[Any], Any]:
    """
    Return the option --config-file: a TOML file whose keys are the command's options.

    On a group of commands, its keys are the options of all of them.
    """
    return click.option(
        "--config-file",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="EXUVIA_CONFIG_FILE",
        is_eager=True,
        expose_value=False,
        callback=lambda ctx, parameter, path: _read(ctx, path or Path(default), asked=path is not None),
        help=f"TOML file with these options as keys (default {default}, if it exists).",
        metavar="FILE",
        default=None,
        show_default=False,
    )


def _read(ctx: click.Context, path: Path, *, asked: bool) -> None:
    if not asked and not path.exists():
        return
    import tomllib  # only where there is a file: commands begin sooner without

    try:
        settings = tomllib.loads(path.read_text())
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise click.BadParameter(f"{path}: {error}") from None
    below = ctx.command.commands if isinstance(ctx.command, click.Group) else {}
    params = [*ctx.command.params, *(param for command in below.values() for param in command.params)]
    unknown = sorted(set(settings) - {name.replace("_", "-") for p in params if (name := p.name)})
    if unknown:
        raise click.BadParameter(f"{path}: unknown setting {', '.join(unknown)}")
    defaults = {key.replace("-", "_"): value for key, value in settings.items()}
    ctx.default_map = {**defaults, **dict.fromkeys(below, defaults)}
