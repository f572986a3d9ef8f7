// The elementary functions of accelnn.elementary that CUDA does not have, on one number. NaN wins in both.

__device__ __forceinline__ real maximum(real x, real y) { return x > y || x != x ? x : y; }

__device__ __forceinline__ real minimum(real x, real y) { return x < y || x != x ? x : y; }

__device__ __forceinline__ real sign(real x) { return x > 0 ? real(1) : x < 0 ? real(-1) : x; }
