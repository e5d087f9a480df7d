"""Builds the compiled kernels of multiepoch.optim; all else is in pyproject.toml.

They are plain shared libraries that compiled.py loads with ctypes, one for each set of vector
instructions, so that one wheel serves every version of Python and torch. Without a C++ compiler
the package is installed without them.
"""

import hashlib
import os
import platform
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SOURCE = "src/multiepoch/optim/_kernels.cpp"
FLAGS = ["-O3", "-g0", "-std=c++17", "-fno-math-errno", "-fopenmp-simd"]
VECTORS = {"plain": []}  # on ARM, this has NEON
if platform.machine() in ("x86_64", "AMD64"):
    VECTORS |= {"avx2": ["-mavx2", "-mfma"], "avx512": ["-march=x86-64-v4"]}


class BuildKernels(build_ext):
    """Names the libraries without a version of Python, and compiles each in its own folder."""

    def build_extension(self, ext: Extension) -> None:
        shared, self.build_temp = self.build_temp, os.path.join(self.build_temp, ext.name)
        try:
            super().build_extension(ext)
        finally:
            self.build_temp = shared

    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", os.sep) + ".so"


class Wheel(bdist_wheel):
    """Says that the wheel is for a platform, and for any Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


def kernels(vectors: str, flags: list[str]) -> Extension:
    digest = hashlib.sha256(Path(SOURCE).read_bytes()).hexdigest()
    return Extension(
        f"multiepoch.optim._kernels_{vectors}",
        [SOURCE],
        define_macros=[("SOURCE_HASH", f'"{digest}"')],
        extra_compile_args=[*FLAGS, *flags],
        extra_link_args=["-pthread"],
        language="c++",
        optional=True,
    )


setup(
    ext_modules=[kernels(*each) for each in VECTORS.items()],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
)
