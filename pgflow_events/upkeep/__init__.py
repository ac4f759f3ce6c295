"""What the owner of a database does now and then: retention, checks, exports, keys."""
