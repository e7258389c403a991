"""The Publish tab and its endpoints."""
