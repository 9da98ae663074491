"""A trained classifier over HTTP, with a page to try it on: what `bertnli serve` runs.

A request is read within its limits (`reading`), becomes a job in the queue of a backend's worker
(`worker`), and its answer is sent (`app`). Each model lives in one thread, which computes the pairs
of several requests at a time. What a client may do below HTTP's requests is limited in `protocol`.
"""
