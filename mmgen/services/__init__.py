"""What the page and its endpoints do, without a page."""
