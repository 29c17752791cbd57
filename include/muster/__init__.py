"""Muster: recovery points of an AI platform, kept where nobody can alter them, and proven to bring it back."""

__version__ = "0.1.0"
