"""Groups: one request to a group resource becomes one request to every member (US 9,450,772; spec sections 3 and 4)."""
