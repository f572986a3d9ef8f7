"""NVIDIA's compiler accepts every kernel, for each architecture, within the bounds that stand beside the kernels."""

from importlib import metadata
from pathlib import Path

import pytest
from gpu import compiler
from gpu.variants import DTYPES, variants

from accelnn.kernels import cuda

for package in ("cuda-core", compiler.COMPILER, compiler.READER):
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        pytest.skip(f'{package} is not installed; pip install -e ".[test,cuda-test]"', allow_module_level=True)

VARIANTS = list(variants())


@pytest.mark.slow
@pytest.mark.parametrize("kernel", list(cuda.KERNELS))
def test_every_variant_compiles_within_its_bounds(kernel):
    mine = [variant for variant in VARIANTS if variant.kernel == kernel]
    assert mine
    bounds = dict(zip(DTYPES, cuda.KERNELS[kernel].registers, strict=True))
    for variant, by_architecture in zip(mine, compiler.measure(v.text for v in mine), strict=True):
        assert set(by_architecture) == set(compiler.ARCHITECTURES)
        for architecture, used in by_architecture.items():
            assert used.spills == used.stack == 0, f"{variant} on {architecture}: {used}"
            assert used.registers <= bounds[variant.dtype], f"{variant} on {architecture}: {used}"
            assert used.shared <= 48 * 1024, f"{variant} on {architecture}: {used}"


def test_a_spill_would_be_seen():
    """An array that is indexed by a number known only at run time lives in local memory."""
    text = """extern "C" __global__ void k(float* x, int n) {
        float a[64]; for (int i = 0; i < 64; i++) a[i] = x[i * n]; x[0] = a[n]; }"""
    used = compiler.resources(text, "sm_90")
    assert used.stack >= 256


def test_an_error_names_the_source_and_its_line():
    text = cuda.program("gather", "float32").replace("copy_row(X", "copy_rows(X")
    with pytest.raises(Exception, match=r"gather\.cu\(\d+\): error: identifier \"copy_rows\""):
        compiler.compiled(text, "sm_80")


def test_the_table_beside_the_kernels_names_every_kernel():
    text = Path(cuda.__file__).with_name("RESOURCES.md").read_text(encoding="utf-8")
    for kernel, entry in cuda.KERNELS.items():
        for dtype, bound in zip(DTYPES, entry.registers, strict=True):
            (row,) = (line for line in text.splitlines() if line.startswith(f"| {kernel} | {dtype} |"))
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            assert int(cells[2]) == sum((v.kernel, v.dtype) == (kernel, dtype) for v in VARIANTS)
            assert max(map(int, cells[3:7])) <= bound == int(cells[7])
