"""NVIDIA's compiler on the shipped texts, without a GPU: registers, shared memory and spills for each architecture.

    python tests/gpu/compiler.py

writes the table that stands beside the kernels. NVRTC comes with the wheel nvidia-cuda-nvrtc and is called through
cuda-core; its assembler says what a kernel takes.
"""

import io
import re
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")
COMPILER = "nvidia-cuda-nvrtc"

_HEAD = """# What the kernels take

Compiled by NVRTC {compiler}; the most over all activations, losses and update rules. Registers are for each thread,
stack in bytes for each too (of calls of subroutines, such as a division in double precision), shared memory in bytes
for each block (sm_90 and newer add 1,024 of the system's own). No variant spills a register. Made by
`python tests/gpu/compiler.py`; `tests/gpu/test_compiler.py` holds every variant to its bound, which stands in
`kernels/cuda/__init__.py`.
"""

_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")


@dataclass(frozen=True)
class Resources:
    """What a thread takes (registers; bytes of stack, and of registers spilled to it) and a block (shared memory)."""

    registers: int
    stack: int
    spills: int
    shared: int


def resources(text: str, architecture: str) -> Resources:
    """Compile the one kernel in a text as CuPy would, for an architecture that need not be here."""
    from cuda.core import Program, ProgramOptions

    from accelnn.backends.cupy.launches import OPTIONS

    (standard,) = (option.removeprefix("--std=") for option in OPTIONS)
    # The last two as CuPy adds them to every program.
    as_cupy = {"ftz": True, "device_as_default_execution_space": True}
    options = ProgramOptions(std=standard, arch=architecture, ptxas_options=["-v"], **as_cupy)
    log = io.StringIO()
    Program(text, code_type="c++", options=options).compile("cubin", logs=log)
    ((stack, stores, loads),) = _FRAME.findall(log.getvalue())
    registers = re.search(r"Used (\d+) registers", log.getvalue())
    shared = re.search(r"(\d+) bytes smem", log.getvalue())
    return Resources(int(registers[1]), int(stack), int(stores) + int(loads), int(shared[1]) if shared else 0)


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
    names = (
        "kernel",
        "precision",
        "variants",
        *(f"registers {a}" for a in ARCHITECTURES),
        "bound",
        "stack",
        "shared memory",
    )
    lines = [_HEAD.format(compiler=metadata.version(COMPILER)), f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for kernel, entry in KERNELS.items():
        for dtype, bound in zip(DTYPES, entry.registers, strict=True):
            mine = [by_arch for variant, by_arch in found if (variant.kernel, variant.dtype) == (kernel, dtype)]
            most = [str(max(by_arch[arch].registers for by_arch in mine)) for arch in ARCHITECTURES]
            stack = max(used.stack for by_arch in mine for used in by_arch.values())
            shared = max(by_arch["sm_80"].shared for by_arch in mine)
            lines.append(f"| {kernel} | {dtype} | {len(mine)} | {' | '.join(most)} | {bound} | {stack} | {shared:,} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from accelnn.kernels import cuda

    Path(cuda.__file__).with_name("RESOURCES.md").write_text(table(), encoding="utf-8")
