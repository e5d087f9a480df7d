"""Builds the compiled kernels of multiepoch.optim; all else is in pyproject.toml.

They are plain shared libraries that compiled.py loads with ctypes, one for each set of vector
instructions, so that one wheel serves every version of Python and torch. Without a C++ compiler
the package is installed without them. MULTIEPOCH_PURE=1 in the environment leaves them out, for a
wheel that fits any platform.

A release is built with MULTIEPOCH_ALONE=1, which leaves out the experiments of the book. They are
installed from the repository alone, since the notebooks on Colab and Binder import them, and with
the records in results/ beside them, since the notebooks show those.
"""

import hashlib
import os
import platform
import tempfile
from pathlib import Path

from setuptools import Extension, find_namespace_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError

SOURCE = "src/multiepoch/optim/_kernels.cpp"
FLAGS = ["-O3", "-std=c++17"]
HINTS = ["-g0", "-fno-math-errno", "-fopenmp-simd"]  # not every compiler has these
VECTORS = {"plain": []}  # on ARM, this has NEON
if platform.machine() in ("x86_64", "AMD64"):
    avx2 = ["-mavx2", "-mfma"]
    # What torch.backends.cpu.get_cpu_capability() calls AVX512, which compiled.py goes by.
    avx512 = [*avx2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
    VECTORS |= {"avx2": avx2, "avx512": avx512}


class BuildKernels(build_ext):
    """Names the libraries without a version of Python, and compiles each in its own folder."""

    def build_extensions(self) -> None:
        hints = [flag for flag in HINTS if self._has(flag)]
        for ext in self.extensions:
            ext.extra_compile_args = [*hints, *ext.extra_compile_args]
        super().build_extensions()

    def _has(self, flag: str) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "empty.cpp")
            source.write_text("")
            try:
                self.compiler.compile([str(source)], folder, extra_postargs=[flag, "-Werror"])
            except CompileError:  # no compiler, or one without the flag
                return False
        return True

    def build_extension(self, ext: Extension) -> None:
        shared, self.build_temp = self.build_temp, os.path.join(self.build_temp, ext.name)
        try:
            super().build_extension(ext)
        finally:
            self.build_temp = shared

    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", os.sep) + ".so"


class BuildWithRecords(build_py):
    """Copies the records into the package `reproduction`, where records.folder() looks for them."""

    def run(self) -> None:
        super().run()
        if self.editable_mode or os.getenv("MULTIEPOCH_ALONE"):
            return
        for record in sorted(Path("results").glob("*/*")):
            if record.suffix in (".csv", ".json", ".parquet"):
                target = Path(self.build_lib, "reproduction", record)
                self.mkpath(str(target.parent))
                self.copy_file(str(record), str(target))


class Wheel(bdist_wheel):
    """Says that the wheel is for any Python 3, and for a platform if kernels were built."""

    def get_tag(self) -> tuple[str, str, str]:
        folder = Path(self.get_finalized_command("build_ext").build_lib)
        return "py3", "none", super().get_tag()[2] if any(folder.rglob("_kernels_*.so")) else "any"


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


experiments = ["reproduction", "reproduction.*"] if os.getenv("MULTIEPOCH_ALONE") else []
setup(
    package_dir={"": "src"},
    # A folder of the experiments needs no __init__.py.
    packages=find_namespace_packages("src", exclude=experiments),
    ext_modules=[kernels(*each) for each in VECTORS.items() if not os.getenv("MULTIEPOCH_PURE")],
    cmdclass={"build_ext": BuildKernels, "build_py": BuildWithRecords, "bdist_wheel": Wheel},
)
