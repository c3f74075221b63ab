"""Runs a keeper as a script, given a home: so nothing but the standard library need be on the path.

The launcher knows the whole command from ``upgrade.command``.
"""

import os
import sys

if __name__ == "__main__":
    # After the standard library, as what is installed beside this package must not hide any of it.
    del sys.path[0]
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from pmdaemon.keeper.main import main

    sys.exit(main(sys.argv[1:]))
