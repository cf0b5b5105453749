"""What the page Story shows of one edit."""
