"""The Generate tab and its endpoints."""
