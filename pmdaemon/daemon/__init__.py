"""What is done: the supervisor and what it acts through. The reactor is injected; never imports ``protocol``."""
