"""The proxy's own pages: rendering and nothing else."""
