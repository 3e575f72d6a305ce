"""The command `exuvia`: options in, exit status out."""

import sys

from exuvia.cli import asking
from exuvia.errors import ExuviaError


def main() -> None:
    """Run the command; errors become one line and exit status 1, wrong usage 2."""
    sys.excepthook = _tell_where
    try:
        if not asking.at_once(sys.argv[1:]):
            from exuvia.cli import commands

            commands.run(_complain)
    except ExuviaError as error:
        _complain(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        _complain("interrupted")
        sys.exit(130)


def _tell_where(_kind: object, error: BaseException, _trace: object) -> None:
    """Of what nobody expected tell the place only: its words may be about somebody."""
    from exuvia.log import places

    for line in places(error):
        _complain(f"internal error: {line}")


def _complain(line: str) -> None:
    print(f"exuvia: {line}", file=sys.stderr)
