"""A command for what services have left in their spools: tells of it, checks it, drains it."""
