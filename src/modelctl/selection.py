"""Which files of a repository vLLM will load (pure).

Here and not in `hub`: a pull fetches these files, and a scan calls a model whole when they are there.
"""
