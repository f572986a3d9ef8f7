"""Proof without a GPU that the CUDA kernels and the CuPy backend are right."""
