"""What is true: values and rules. No Twisted, no I/O, no clock, no randomness."""
