"""``python -m bertnli``: the command line without the script that pip installs."""

import sys

from bertnli.cli import main

sys.exit(main())
