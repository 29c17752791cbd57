"""The nouns: pure values and pure policy. Imports the standard library and `muster.errors`, nothing else."""
