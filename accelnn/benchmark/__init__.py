"""Time of a training step, beside other ways to train the same network; ``accelnn bench`` on the command line.

One case (:mod:`~accelnn.benchmark.cases`) is trained by several contestants
(:mod:`~accelnn.benchmark.contestants`), each in a process of its own (:mod:`~accelnn.benchmark.worker`). First all
must reach the same loss (:mod:`~accelnn.benchmark.parity`), then their rounds are timed in turn
(:mod:`~accelnn.benchmark.rounds`). The *floor* computes a step's matrix products and nothing else: what remains above
it is what a library adds.
"""
