"""NVIDIA's compiler accepts every kernel, for each architecture, within the bounds that stand beside the kernels."""

from importlib import metadata
from pathlib import Path

import pytest
from gpu import compiler
from gpu.variants import DTYPES, variants

from accelnn.kernels import cuda

for package in ("cuda-core", "cuda-bindings", compiler.COMPILER):
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
            assert used.spills == 0, f"{variant} on {architecture}: {used}"
            assert used.stack <= 16, f"{variant} on {architecture}: {used}"
            assert used.registers <= bounds[variant.dtype], f"{variant} on {architecture}: {used}"
            assert used.shared <= 48 * 1024, f"{variant} on {architecture}: {used}"


def test_a_spill_would_be_seen():
    """Ninety-six numbers that live at once, and thirty-two registers."""
    text = """extern "C" __global__ void __launch_bounds__(1024, 2) k(float* x, int n) {
        float a[96];
        for (int i = 0; i < 96; i++) a[i] = x[i * n];
        for (int r = 0; r < n; r++)
            for (int i = 0; i < 96; i++) a[i] = a[i] * a[(i + 1) % 96] + x[r];
        for (int i = 0; i < 96; i++) x[i] = a[i]; }"""
    used = compiler.resources(text, "sm_80")
    assert used.registers == 32
    assert used.spills > 100
    assert used.stack > 100


def test_an_error_names_the_source_and_its_line():
    text = cuda.program("gather", "float32").replace("copy_row(X", "copy_rows(X")
    with pytest.raises(Exception, match=r"gather\.cu\(\d+\): error: identifier \"copy_rows\""):
        compiler.resources(text, "sm_80")


def test_the_table_beside_the_kernels_names_every_kernel():
    text = Path(cuda.__file__).with_name("RESOURCES.md").read_text(encoding="utf-8")
    for kernel, entry in cuda.KERNELS.items():
        for dtype, bound in zip(DTYPES, entry.registers, strict=True):
            (row,) = (line for line in text.splitlines() if line.startswith(f"| {kernel} | {dtype} |"))
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            assert int(cells[2]) == sum((v.kernel, v.dtype) == (kernel, dtype) for v in VARIANTS)
            assert max(map(int, cells[3:7])) <= bound == int(cells[7])
