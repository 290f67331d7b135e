"""The rules of the audit log: what a record is, how records are chained, what is personal, how all of it is proven."""
