"""The report of one program, a section a file."""
