"""Kernels: Numba sources for the CPU and CUDA C sources for the GPU.

Everything here works in memory order: a matrix is a C-ordered array whose rows are examples, the transpose of what
the equations show. The Numba sources are plain functions; the numba backend binds their free names (an activation,
a loss, an update rule) and compiles the copies. Nothing here imports the rest of accelnn.
"""
