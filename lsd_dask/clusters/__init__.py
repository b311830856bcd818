"""Clusters to work on: this machine, a scheduler that runs, or jobs of a batch system. Knows no volumes."""

from .connecting import connect, job_script, session

__all__ = ["connect", "job_script", "session"]
