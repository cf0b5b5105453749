"""Mutation testing: small faults are put into the package one at a time, and a test has to notice each."""
