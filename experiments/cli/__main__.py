"""`python -m hustings.experiments.cli`."""

from hustings.experiments.cli import main

main()
