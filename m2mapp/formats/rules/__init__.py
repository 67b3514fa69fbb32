"""The rule language (spec section 7; docs/rules.md): text to a rule, a rule and a content to a verdict. Pure."""
