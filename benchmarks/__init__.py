"""Measurements that compare this project with what a user would run instead. Not in the wheel."""
