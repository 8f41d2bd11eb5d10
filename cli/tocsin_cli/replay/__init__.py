"""`tocsin replay`: the rules in service over recorded data."""
