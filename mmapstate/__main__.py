"""What ``python -m mmapstate`` runs."""

import sys

from mmapstate.command import main

if __name__ == "__main__":
    sys.exit(main())
