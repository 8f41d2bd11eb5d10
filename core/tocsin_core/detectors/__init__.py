"""Detectors beyond limits and trends: exposure, health of instruments, change, voting, structure and mass balance."""
