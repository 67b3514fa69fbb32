"""What simulated devices measure, for `make run` and for tests: real nodes of this program, whose values move by themselves."""
