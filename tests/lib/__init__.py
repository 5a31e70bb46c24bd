"""Harness of the tests: private servers, the worker, load, and a comparison that shares no code with the product."""
