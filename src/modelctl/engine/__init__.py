"""vLLM: finding it, installing it, starting it, watching it."""
