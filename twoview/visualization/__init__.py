"""Pictures and pages to trust a result by."""
