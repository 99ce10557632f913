"""Puts libdgrt.so into the wheel when ../build holds one; pyproject.toml says the rest."""

import pathlib
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

LIBRARY = pathlib.Path(__file__).resolve().parent.parent / "build" / "libdgrt.so"


class BuildWithLibrary(build_py):
    def run(self):
        super().run()
        if LIBRARY.exists():
            shutil.copyfile(LIBRARY, pathlib.Path(self.build_lib) / "dgrt" / "libdgrt.so")


class BinaryDistribution(Distribution):
    def has_ext_modules(self):  # a wheel with a shared library is for one platform
        return LIBRARY.exists()


setup(cmdclass={"build_py": BuildWithLibrary}, distclass=BinaryDistribution)
