"""Runs the stub's tests, in namespaces of their own: `sudo python3 tests/stub [TEST…]`."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import machines

machines.enter()
if len(sys.argv) > 1:
    unittest.main(module=None, argv=["tests/stub", "-v", *sys.argv[1:]])
else:
    unittest.main(module=None, argv=["tests/stub", "discover", "-v", "-s", str(Path(__file__).parent)])
