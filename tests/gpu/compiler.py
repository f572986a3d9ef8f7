"""NVIDIA's compiler on the shipped texts, without a GPU: registers, shared memory and spills for each architecture.

    python tests/gpu/compiler.py

writes the table that stands beside the kernels. NVRTC comes with the wheel nvidia-cuda-nvrtc, is called through
cuda-core, and cuobjdump (wheel nvidia-cuda-cuobjdump) reads what a compiled kernel takes.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")
COMPILER, READER = "nvidia-cuda-nvrtc", "nvidia-cuda-cuobjdump"

_HEAD = """# What the kernels take

Compiled by NVRTC {compiler}; the most over all activations, losses and update rules. Registers are for each thread,
shared memory in bytes for each block (sm_90 and newer add 1,024 of the system's own). No variant spills a register or
uses a stack. Made by `python tests/gpu/compiler.py`; `tests/gpu/test_compiler.py` holds every variant to its bound,
which stands in `kernels/cuda/__init__.py`.
"""

_USAGE = re.compile(r"Function (\w+):\s*REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


@dataclass(frozen=True)
class Resources:
    """What a thread (registers, bytes of stack and spilled registers) and a block (bytes of shared memory) take."""

    registers: int
    stack: int
    shared: int
    spills: int


def compiled(text: str, architecture: str) -> bytes:
    """A cubin."""
    from cuda.core import Program, ProgramOptions

    from accelnn.backends.cupy.launches import OPTIONS

    (standard,) = (option.removeprefix("--std=") for option in OPTIONS)
    # The last two as CuPy adds them to every program.
    options = ProgramOptions(std=standard, arch=architecture, ftz=True, device_as_default_execution_space=True)
    return bytes(Program(text, code_type="c++", options=options).compile("cubin").code)


def resources(text: str, architecture: str) -> Resources:
    """Of the one kernel in a text."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled(text, architecture))
        file.flush()
        command = [str(_reader()), "-res-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (found,) = _USAGE.findall(usage)
    return Resources(*map(int, found[1:]))


def _reader() -> Path:
    for file in metadata.files(READER) or ():
        if file.stem == "cuobjdump":
            return Path(str(file.locate()))
    raise FileNotFoundError(f"the package {READER} holds no cuobjdump")


def measure(texts: Iterable[str]) -> list[dict[str, Resources]]:
    """Of each text, by architecture; two at a time, since the compiler runs outside Python's lock."""
    import cuda.core  # noqa: F401 (two threads may not import it at once)

    with ThreadPoolExecutor(2) as pool:
        jobs = [{arch: pool.submit(resources, text, arch) for arch in ARCHITECTURES} for text in texts]
        return [{arch: job.result() for arch, job in by_arch.items()} for by_arch in jobs]


def table() -> str:
    """Markdown: the most that any variant of a kernel takes."""
    from gpu.variants import DTYPES, variants

    from accelnn.kernels.cuda import KERNELS

    every = list(variants())
    found = list(zip(every, measure(variant.text for variant in every), strict=True))
    names = ("kernel", "precision", "variants", *(f"registers {a}" for a in ARCHITECTURES), "bound", "shared memory")
    lines = [_HEAD.format(compiler=metadata.version(COMPILER)), f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for kernel, entry in KERNELS.items():
        for dtype, bound in zip(DTYPES, entry.registers, strict=True):
            mine = [by_arch for variant, by_arch in found if (variant.kernel, variant.dtype) == (kernel, dtype)]
            most = [str(max(by_arch[arch].registers for by_arch in mine)) for arch in ARCHITECTURES]
            shared = max(by_arch["sm_80"].shared for by_arch in mine)
            lines.append(f"| {kernel} | {dtype} | {len(mine)} | {' | '.join(most)} | {bound} | {shared:,} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from accelnn.kernels import cuda

    Path(cuda.__file__).with_name("RESOURCES.md").write_text(table(), encoding="utf-8")
