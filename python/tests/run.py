#!/usr/bin/env python3
"""Runs the Python tests: run.py [libdgrt.so]. They need no GPU. Without an argument the library is looked
for as by dgrt.load_library()."""

import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import dgrt  # noqa: E402

dgrt.load_library(*sys.argv[1:2])
suite = unittest.defaultTestLoader.discover(str(HERE))
sys.exit(not unittest.TextTestRunner().run(suite).wasSuccessful())
