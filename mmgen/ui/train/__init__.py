"""The Train tab and its endpoints."""
