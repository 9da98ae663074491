"""An HTTP server for a trained classifier, with a web page to try it: `bertnli serve`.

`app` has the endpoints, and `schemas` their requests and answers. Each model has its own thread, a
`worker`, which computes the pairs of concurrent requests in one batch. `run` runs the server.
"""
