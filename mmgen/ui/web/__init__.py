"""Visitors, their cookies and accounts, and the files that they reach."""
