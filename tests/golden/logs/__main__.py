"""Record golden logs; see `tests.golden.logs.recording`."""

from tests.golden.logs.recording import main

main()
