"""Run the exuvia command as a module."""

from exuvia.cli import main

main()
