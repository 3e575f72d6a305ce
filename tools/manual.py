"""
What the package says to people, written from the commands themselves: manual pages, completion for
shells, and files of settings with a comment for each.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import click
from click.shell_completion import get_completion_class

from exuvia.cli.commands import root

COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/exuvia",
    "zsh": "usr/share/zsh/vendor-completions/_exuvia",
    "fish": "usr/share/fish/vendor_completions.d/exuvia.fish",
}
"""Where each shell of Debian looks for the completion of a command."""

EXIT_STATUS = {
    "0": "It is done.",
    "1": "It was refused, or failed; one line says why and what to do.",
    "2": "The command line or a file of settings is wrong.",
}


def walk(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Return a command and all below it, in the order in which `--help` lists them."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if below := command.get_command(context, name):
                yield from walk((*path, name), below)


def pages(*, version: str, date: str) -> dict[str, str]:
    """Return the manual page of every command, in roff, by file name."""
    found = dict(walk(("exuvia",), root))
    return {
        f"{'-'.join(path)}.1": "\n".join(_page(path, command, found, version, date)) + "\n"
        for path, command in found.items()
    }


def completions() -> dict[str, str]:
    """Return the script of each shell, by its path in the package."""
    scripts = {}
    for shell, path in COMPLETIONS.items():
        kind = get_completion_class(shell)
        assert kind is not None
        scripts[path] = kind(root, {}, "exuvia", "_EXUVIA_COMPLETE").source()
    return scripts


@dataclass(frozen=True, slots=True)
class File:
    """A file of settings: what stands at its top, and what is not as the command itself tells."""

    title: str
    given: Mapping[str, str] = field(default_factory=dict)
    """TOML of the settings that stand there without a #."""
    examples: Mapping[str, str] = field(default_factory=dict)
    """TOML of what has no default."""
    without: frozenset[str] = frozenset()
    """What is only ever meant once, or belongs on the command line."""


def settings(command: click.Command, file: File) -> str:
    """Return a file of settings: what each does as a comment, and what it is if nothing is said."""
    lines = _comment(file.title)
    for option in _options(command):
        assert option.name is not None
        name = option.name.replace("_", "-")
        if name in file.without:
            continue
        lines += ["", *_comment(option.help or "")]
        if name in file.given:
            lines.append(f"{name} = {file.given[name]}")
        else:
            lines.append(f"#{name} = {file.examples.get(name) or _default(option)}")
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ")


def _options(command: click.Command) -> list[click.Option]:
    """Return the options that can stand in a file: of a group, those of all its commands."""
    below = command.commands.values() if isinstance(command, click.Group) else ()
    found = {
        p.name: p for c in (command, *below) for p in c.params if isinstance(p, click.Option) and p.envvar
    }
    return [option for name, option in found.items() if name != "config_file"]


def _default(option: click.Option) -> str:
    """Return the default as TOML."""
    default = option.to_info_dict()["default"]
    if option.is_flag:
        return str(bool(default)).lower()
    if isinstance(default, int | float):
        return f"{default:g}"
    if isinstance(default, str):
        return f'"{default}"'
    raise ValueError(f"{option.name} has no default: give an example of it")


def _page(
    path: tuple[str, ...],
    command: click.Command,
    all_commands: Mapping[tuple[str, ...], click.Command],
    version: str,
    date: str,
) -> Iterator[str]:
    context = _context(path, command)
    name = "-".join(path)
    summary = _inspected(command.help).partition("\n\n")[0]
    yield f'.TH "{name.upper()}" 1 "{date}" "exuvia {version}" "exuvia"'
    yield f".SH NAME\n{_roff(name)} \\- {_roff(summary.replace(chr(10), ' ').rstrip('.'))}"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".SH SYNOPSIS\n.B {_roff(' '.join(path))}\n{_roff(usage)}"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(command.help or "")
    yield from _listed(
        "OPTIONS", (r for p in command.get_params(context) if (r := p.get_help_record(context)))
    )
    below = {p: c for p, c in all_commands.items() if len(p) == len(path) + 1 and p[:-1] == path}
    yield from _listed("COMMANDS", ((" ".join(p), c.get_short_help_str(200)) for p, c in below.items()))
    yield from _environment(command)
    yield from _listed("EXIT STATUS", EXIT_STATUS.items())
    others = sorted({p for p in all_commands if p[:-1] == path or p == path[:-1]})
    if others:
        yield ".SH SEE ALSO\n" + ",\n".join(f".BR {_roff('-'.join(p))} (1)" for p in others)


def _context(path: tuple[str, ...], command: click.Command) -> click.Context:
    return click.Context(command, info_name=" ".join(path), terminal_width=100, max_content_width=100)


def _inspected(text: str | None) -> str:
    return textwrap.dedent(text or "").strip()


def _environment(command: click.Command) -> Iterator[str]:
    """Say which variables and settings do what the options do."""
    names = [option.envvar for option in _options(command) if isinstance(option.envvar, str)]
    if names and not isinstance(command, click.Group):
        yield ".SH ENVIRONMENT"
        yield "Each of these is what the option of its name is, which goes first:"
        yield _roff(", ".join(names)) + "."


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", _inspected(text)):
        yield ".PP"
        yield _roff(" ".join(line.strip() for line in paragraph.splitlines()))


def _listed(title: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    rows = list(rows)
    if rows:
        yield f".SH {title}"
    for name, meaning in rows:
        yield f".TP\n.B {_roff(name)}\n{_roff(' '.join(meaning.split()))}"


def _roff(text: str) -> str:
    """Return text that roff prints as it is; a hyphen of an option stays one that can be copied."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    escaped = escaped.replace("…", "...")
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.MULTILINE)
