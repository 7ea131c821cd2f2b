"""`harness judge`: labels for judges, their credentials, and attacks on them."""
