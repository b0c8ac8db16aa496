"""What a published model is, and the only code that reads or writes one."""
