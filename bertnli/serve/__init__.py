"""A trained classifier over HTTP, with a page to try it on: `bertnli serve`.

`app` has the paths, and `schemas` their requests and answers. Each model lives in the thread of a
`worker`, which computes the pairs of concurrent requests in one batch. `run` starts and stops it.
"""
