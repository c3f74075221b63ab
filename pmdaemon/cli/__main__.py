"""``python -m pmdaemon.cli``: the command line where it is not installed."""

import sys

from pmdaemon.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
